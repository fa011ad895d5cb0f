"""A strict reader of YAML: numbers as in YAML 1.2, each key once, no anchors, no objects."""

from __future__ import annotations

import re
from typing import Any

import yaml

from cfcd.errors import UsageError


class _Loader(yaml.SafeLoader):
    """Read what a recipe may hold.

    Plain scalars follow the core schema of YAML 1.2. The 1.1 rules that PyYAML comes with take 1e-4 for text,
    on, yes and 08:30 for something else than text, and 010 for 8.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse aliases: a few lines of them make gigabytes."""
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="a recipe takes no aliases", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse keys that come twice, of which PyYAML would keep the last, and keys that are no text."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                twice = isinstance(key, yaml.ScalarNode)
                problem = f"the key {key.value} is given twice" if twice else "a key is no word"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _whole(_: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def parse(text: str, where: str) -> Any:
    """Read one YAML document.

    Args:
        text: The document.
        where: What it is, to begin a message with.

    Raises:
        UsageError: It is no YAML, or none that a recipe may hold; the message names the line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark and "\n" in text else ""
        what = f"{where}{line}: {error.problem or error.context or 'it is no YAML'}."
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = f"{where}: it cannot be read as YAML ({str(error).splitlines()[0]:.100})."
    raise UsageError(what, "Mend it, or start from what `cfcd train --show-recipe` prints.")
