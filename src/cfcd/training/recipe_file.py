"""Recipes as people write them: names, YAML files and options such as coarse.lr=0.01.

A layer is a flat mapping from full keys to values; layers are laid over each other, the last one wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cfcd.errors import UsageError
from cfcd.model.extras import need
from cfcd.training.named_recipes import RECIPES, choose_recipe, named_recipe
from cfcd.training.recipe import Recipe, WhiteningRecipe
from cfcd.training.recipe_head import HEAD_OPTIONS
from cfcd.training.recipe_values import Section, as_yaml, knobs, refuse, sections

MAX_BYTES = 65_536
"""Larger files are no recipes."""

Layer = dict[str, object]

_SHOW = "`cfcd train --show-recipe` prints every key."


def load_recipe(
    source: str | Path | Recipe | None = None,
    options: Sequence[str] | Mapping[str, object] = (),
    *,
    images: int | None = None,
) -> Recipe:
    """Read a recipe, and change what the options say.

    A YAML file gives every key without a default, or says `base: small` and gives what differs; without a
    name it gets that of the file. A change of head.kind or whitening.kind drops the values of the old kind.

    Args:
        source: Name of a recipe (which goes before a file of that name), a YAML file, a recipe, or None: what
            `choose_recipe` chooses.
        options: "coarse.lr=0.01", with values as YAML writes them, or a mapping of keys (full or nested) to
            values; of options with the same key the last one counts.
        images: Number of training pictures, to choose by.

    Raises:
        UsageError: A file cannot be read, a key is unknown, or a value is not allowed.
        MissingExtra: There is YAML to read and pyyaml is not installed.
    """
    if source is None:
        recipe = choose_recipe(images)
    elif isinstance(source, Recipe):
        recipe = source
    elif source in RECIPES:
        recipe = named_recipe(str(source))
    else:
        recipe = _load_file(source)
    layer = _read_options(options)
    return build(_merge(flatten(recipe.to_dict()), layer)) if layer else recipe


def flatten(data: object) -> Layer:
    """Turn nested mappings into a layer.

    Raises:
        UsageError: Something is no mapping, or a key is given twice: nested and with points.
    """
    layer: Layer = {}
    for key, value in _pairs(data, ""):
        if key in layer:
            raise UsageError(f"The key {key} is given twice.", "Leave one of them out.")
        layer[key] = value
    return layer


def build(layer: Layer) -> Recipe:
    """Make the recipe of a complete layer.

    Raises:
        UsageError: A key is unknown or missing, or a value is not allowed.
    """
    for key in layer:
        _check_key(key, layer)
    values = {name: layer[name] for name in knobs(Recipe) if name in layer}
    for name, (section, _) in sections(Recipe).items():
        inner: dict[str, Any] = {}
        for key, value in layer.items():
            start, _, rest = key.partition(".")
            if start == name:
                field, dot, option = rest.partition(".")
                if dot:
                    inner.setdefault(field, {})[option] = value
                else:
                    inner[field] = value
        _check_complete(section, inner)
        values[name] = section(**inner)
    _check_complete(Recipe, values)
    return Recipe(**values)  # type: ignore[arg-type]


def write(recipe: Recipe) -> str:
    """Write YAML with every knob of the recipe and what it does."""
    lines = [
        "# A recipe of `cfcd train`: every knob, what it does and which way to turn it.",
        "# A file of your own may say `base: small` and give only the keys that differ.",
    ]
    top = {name: (getattr(recipe, name), knob.about) for name, knob in knobs(Recipe).items()}
    lines += _table(top, "")
    for name, (section, about) in sections(Recipe).items():
        values = getattr(recipe, name).values()
        options = values.pop("options", {})
        lines += ["", f"# {about}", f"{name}:"]
        lines += _table({key: (value, knobs(section)[key].about) for key, value in values.items()}, "  ")
        if options:
            known = HEAD_OPTIONS[recipe.head.kind]
            lines += ["  options:"]
            lines += _table({key: (value, known[key].about) for key, value in options.items()}, "    ")
    return "\n".join(lines) + "\n"


def _table(rows: Mapping[str, tuple[object, str]], indent: str) -> list[str]:
    """Write one key per line, with comments below each other."""
    left = {key: f"{indent}{key}: {as_yaml(value)}" for key, (value, _) in rows.items()}
    # A long text, such as a path, must not push all comments aside.
    width = max((len(text) for text in left.values() if len(text) <= 40), default=0)
    return [f"{left[key]:<{width}}  # {about}" for key, (_, about) in rows.items()]


def _pairs(data: object, start: str) -> Iterable[tuple[str, object]]:
    """List full keys and values."""
    if not isinstance(data, Mapping):
        where = start.removesuffix(".") or "The recipe"
        raise refuse(where, data, f"keys and values, such as {_examples(start)}, or leave it out")
    for name, value in data.items():
        key = f"{start}{name}"
        if key in (*sections(Recipe), "head.options"):
            yield from _pairs(value, key + ".")
        else:
            yield key, value


def _examples(start: str) -> str:
    if start == "head.options.":
        return "head.options.rho"
    kind = sections(Recipe)[start.removesuffix(".")][0] if start else Recipe
    return kind.key(next(iter(knobs(kind))))


def _merge(base: Layer, layer: Layer) -> Layer:
    """Lay one layer over another."""
    dropped = set()
    if _changes(base, layer, "head.kind"):
        dropped |= {key for key in base if key.startswith("head.options.")}
    if _changes(base, layer, "whitening.kind"):
        kept = {f"whitening.{name}" for name in ("kind", *WhiteningRecipe.own(layer["whitening.kind"]))}
        dropped |= {key for key in base if key.startswith("whitening.")} - kept
    return {key: value for key, value in base.items() if key not in dropped} | layer


def _changes(base: Layer, layer: Layer, key: str) -> bool:
    return key in base and key in layer and base[key] != layer[key]


def _check_key(key: str, layer: Layer) -> None:
    known = list(knobs(Recipe))
    known += [kind.key(name) for kind, _ in sections(Recipe).values() for name in knobs(kind)]
    if key in known or key.startswith("head.options."):
        return  # HeadRecipe knows its options
    known += [f"head.options.{name}" for name in HEAD_OPTIONS.get(str(layer.get("head.kind")), ())]
    known += sections(Recipe)
    last = {name: name.rpartition(".")[2] for name in known}
    mine = key.rpartition(".")[2]
    close = [name for name in known if last[name] == mine] or get_close_matches(key, known, 1, 0.75)
    if not close:
        leaf = get_close_matches(mine, last.values(), 1, 0.6)
        close = [name for name in known if leaf and last[name] == leaf[0]]
    guess = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise UsageError(f"There is no key {key!r:.100}.{guess}", _SHOW)


def _check_complete(section: type[Section], values: Mapping[str, object]) -> None:
    for item in fields(section):  # type: ignore[arg-type]
        if item.name not in values and item.default is MISSING and item.default_factory is MISSING:
            what = f"The key {section.key(item.name)} is missing."
            raise UsageError(what, f"Give it, or start with `base: {RECIPES[0]}`.")


def _read_options(options: Sequence[str] | Mapping[str, object]) -> Layer:
    if isinstance(options, Mapping):
        return flatten(options)
    layer: Layer = {}
    for option in [options] if isinstance(options, str) else options:
        key, equals, value = (part.strip() for part in option.partition("="))
        if not equals or not key or not value:
            raise UsageError(
                f"The option {option!r:.100} is not a key and a value.",
                "Write key=value, such as coarse.lr=0.01 (null for none).",
            )
        layer |= flatten({key: _parse(value, f"The value of the option {option!r:.100}")})
    return layer


def _load_file(source: str | Path) -> Recipe:
    try:
        with Path(source).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        what = f"{source} is no recipe: {getattr(error, 'strerror', None) or error}."
        if isinstance(error, FileNotFoundError):
            close = get_close_matches(str(source), RECIPES, 1, 0.5)
            guess = f" Did you mean {close[0]!r}?" if close else ""
            what = f"There is no recipe {source}: neither a name nor a file.{guess}"
        raise UsageError(what, f"Give {', '.join(RECIPES)}, or a YAML file.") from error
    if len(content) > MAX_BYTES:
        raise UsageError(f"{source} is no recipe: it has over {MAX_BYTES} bytes.", "Give a smaller file.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is no recipe: it is not UTF-8 text.", "Give a YAML file.") from error
    data = _parse(text, str(source))
    try:
        return _from_file({} if data is None else data, Path(source))
    except UsageError as error:
        raise UsageError(f"{source}: {error.what}", error.mend) from error


def _from_file(data: object, path: Path) -> Recipe:
    layer = flatten(data)
    base: Layer = {}
    if "base" in layer:
        name = layer.pop("base")
        base = flatten(named_recipe(name if isinstance(name, str) else as_yaml(name)).to_dict())
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", path.stem).strip("-._+")[:100]
    return build(_merge(base | {"name": stem or "recipe"}, layer))


def _parse(text: str, where: str) -> Any:
    need("yaml", "Reading a recipe")
    from cfcd.training.recipe_yaml import parse

    return parse(text, where)
