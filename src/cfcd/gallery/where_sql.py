"""A condition as a parameterised query over a gallery's items: no text of a user becomes SQL.

What a comparison means, cell by cell:

- An empty cell (absent, null, or an empty text) makes every comparison unknown, as in SQL: the item is not
  found, nor is it by the opposite comparison. `is null` finds it.
- If the cell or the value is true or false, both are read so: true, yes, 1 and false, no, 0, in any case.
- Otherwise, if one of them is a number, both are read as numbers: "1990" of a CSV equals 1990.
- Otherwise both are texts, ordered by code point.
- A cell or value that cannot be read so counts as empty; so do lists and tables of a Parquet file.
- `like` takes letters in any case, of texts and whole numbers.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.errors import UsageError
from cfcd.gallery.where import Compare, Condition, Group, IsNull, Leaf, Like, OneOf, Value, leaves, to_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.gallery.truth.store import Store

# Column -> (its expression, the kind of its cells); further columns are JSON in `extra`, of any kind.
_TEXTS = ("id", "path", "label", "split")
_FLAGS = ("is_query", "is_gallery")
_NUMBERS = ("x_1", "y_1", "x_2", "y_2")
_KINDS = {
    **dict.fromkeys(_TEXTS, "text"),
    **dict.fromkeys(_FLAGS, "flag"),
    **dict.fromkeys(_NUMBERS, "number"),
}
BUILT_IN = tuple(_KINDS)
_JSON_KINDS = {"flag": "('true', 'false')", "number": "('integer', 'real')", "text": "('text')"}
_TRUTHS = {"true": 1, "yes": 1, "1": 1, "false": 0, "no": 0, "0": 0}


def matching_rows(connection: sqlite3.Connection, condition: Condition) -> NDArray[np.int64]:
    """Find the row numbers of the items that meet a condition, (n,) int64, ascending.

    Raises:
        UsageError: It names a column that no item has.
    """
    _add_functions(connection)
    # SQLite reads strict JSON; should the store hold NaN or the like, Python reads all of it, more slowly.
    for tolerant in (False, True):
        try:
            written = dict.fromkeys(leaf.column for leaf in leaves(condition))
            names = {name: _resolve(connection, name, tolerant) for name in written}
            query = _Query(names, tolerant)
            where = query.condition(condition)
            rows = connection.execute(
                f"SELECT number FROM items WHERE {where} ORDER BY number", query.values
            ).fetchall()
            return np.array(rows, np.int64).reshape(-1)
        except sqlite3.OperationalError as error:
            if tolerant or "JSON" not in str(error):
                raise
    raise AssertionError  # the second round returns or raises


def database_of(store: Store) -> sqlite3.Connection:
    """Give the SQLite database of a store's items; of a store elsewhere a copy in memory, to be asked alike.

    Call it within `store.reading()`.
    """
    own: sqlite3.Connection | None = getattr(store, "_connection", None)
    if own is not None:
        return own
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    names = ("number", *BUILT_IN, "extra")
    copy.execute(f"CREATE TABLE items ({', '.join(names)})")
    copy.executemany(
        f"INSERT INTO items VALUES ({', '.join('?' * len(names))})",
        (
            (
                stored.number,
                *(item.id, str(item.path), item.label, item.split, item.is_query, item.is_gallery),
                *(item.box or (None,) * 4),
                json.dumps(dict(item.extra), default=str, ensure_ascii=False),
            )
            for stored in store.items()
            for item in (stored.item,)
        ),
    )
    return copy


def extra_columns(connection: sqlite3.Connection) -> list[str]:
    """List the further columns of all items."""
    names: dict[str, None] = {}
    for (extra,) in connection.execute("SELECT DISTINCT extra FROM items"):
        names.update(dict.fromkeys(json.loads(extra)))
    return list(names)


class _Query:
    """Write a condition as SQL and gather the values bound to its parameters."""

    def __init__(self, names: dict[str, str], tolerant: bool) -> None:
        self._names = names
        self._tolerant = tolerant
        self._bound: dict[tuple[type, Any], str] = {}
        self.values: dict[str, Any] = {}

    def condition(self, condition: Condition) -> str:
        if isinstance(condition, Group):
            joint = f" {condition.operator.upper()} "
            return f"({joint.join(self.condition(term) for term in condition.terms)})"
        column = self._names[condition.column]
        if column in _KINDS:
            value, kind = column, _KINDS[column]
            test = f"{value} IS NULL" if isinstance(condition, IsNull) else self._test(condition, kind, value)
        else:
            value, kind = self._json(column)
            if isinstance(condition, IsNull):
                test = f"nullif({value}, '') IS NULL"
            else:
                cases = " ".join(
                    f"WHEN {kind} IN {types} THEN {self._test(condition, name, value)}"
                    for name, types in _JSON_KINDS.items()
                )
                test = f"CASE {cases} END"
        negated = not isinstance(condition, Compare) and condition.negated
        return f"NOT ({test})" if negated else f"({test})"

    def _json(self, column: str) -> tuple[str, str]:
        """Give the expressions of a further column's value and of its JSON type."""
        if self._tolerant or not _is_plain(column):
            name = self._bind(column)
            return f"cfcd_value(extra, {name})", f"cfcd_type(extra, {name})"
        path = self._bind(f'$."{column}"')
        return f"json_extract(extra, {path})", f"json_type(extra, {path})"

    def _bind(self, value: Any) -> str:
        key = (type(value), value)
        if key not in self._bound:
            self._bound[key] = f":v{len(self._bound)}"
            self.values[self._bound[key][1:]] = value
        return self._bound[key]

    def _test(self, leaf: Leaf, kind: str, value: str) -> str:
        """Write a comparison with cells of one kind; NULL is unknown."""
        text = f"nullif({value}, '')"
        if isinstance(leaf, Like):
            fits = {"text": text, "number": f"CASE typeof({value}) WHEN 'integer' THEN {value} END"}
            pattern, escape = self._bind(leaf.pattern), self._bind(leaf.escape)
            return f"cfcd_like({fits.get(kind, 'NULL')}, {pattern}, {escape})"
        if isinstance(leaf, Compare):
            number = not isinstance(leaf.value, str)
            cell = f"cfcd_number({value})" if kind == "text" and number else text if kind == "text" else value
            wanted = leaf.value if kind == "text" else _as_kind(leaf.value, kind)
            return f"{cell} {leaf.order} {self._bind(wanted)}"
        assert isinstance(leaf, OneOf)
        if kind == "flag":
            return self._among(value, (_as_kind(one, "flag") for one in leaf.values))
        flags = [int(one) for one in leaf.values if isinstance(one, bool)]
        numbers = [one for one in leaf.values if isinstance(one, int | float) and not isinstance(one, bool)]
        texts = [one for one in leaf.values if isinstance(one, str)]
        parts: list[tuple[str, list[Any]]]
        if kind == "number":
            whole = f"CASE WHEN {value} IN (0, 1) THEN {value} END"
            parts = [(value, [_as_kind(one, "number") for one in (*numbers, *texts)]), (whole, flags)]
        else:
            parts = [(text, [*texts]), (f"cfcd_number({value})", [*numbers]), (f"cfcd_truth({value})", flags)]
        return " OR ".join(self._among(cell, found) for cell, found in parts if found)

    def _among(self, cell: str, values: Iterable[Any]) -> str:
        return f"{cell} IN ({', '.join(self._bind(value) for value in dict.fromkeys(values))})"


def _is_plain(column: str) -> bool:
    """Tell whether a path of SQLite can name this key as it stands in JSON."""
    return bool(column) and not any(one in '"\\' or one < " " for one in column)


def _resolve(connection: sqlite3.Connection, written: str, tolerant: bool) -> str:
    """Find the column a condition means: exactly so, or else in other letter case if only one is."""
    if written in _KINDS:
        return written
    kind = _Query({}, tolerant)
    test = kind._json(written)[1]
    some = f"SELECT 1 FROM items WHERE {test} IS NOT NULL LIMIT 1"
    if connection.execute(some, kind.values).fetchone():
        return written
    names = [*BUILT_IN, *extra_columns(connection)]
    alike = [name for name in names if name.lower() == written.lower()]
    if len(alike) == 1:
        return alike[0]
    near = alike or get_close_matches(written.lower(), [name.lower() for name in names], 1, 0)
    nearest = next((name for name in names if name in near or name.lower() in near), "label")
    shown_names = dict.fromkeys((*_TEXTS, nearest) if nearest in BUILT_IN else _TEXTS)
    shown = written if len(written) <= 40 else f"{written[:40]}..."
    known = ", ".join(repr(name[:40]) for name in names[len(_TEXTS) :][:12] if name not in _KINDS)
    raise UsageError(
        f"The gallery has no column {shown!r}; the nearest is {nearest[:40]!r}.",
        f"Its columns are {', '.join(shown_names)}{', ' + known if known else ''}.",
    )


def _as_kind(value: Value, kind: str) -> int | float | None:
    """Read a value as a truth (1 or 0) or a number; None is what cannot be read so."""
    if kind == "flag":
        return _truth(value)
    return to_number(value) if isinstance(value, str) else value


def _truth(value: Any) -> int | None:
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower())
    return int(value) if value in (0, 1) else None


def _number(value: Any) -> int | float | None:
    return to_number(value) if isinstance(value, str) else None


def _json_cell(extra: str, column: str) -> Any:
    value = json.loads(extra).get(column)
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 (NaN)


def _json_value(extra: str, column: str) -> Any:
    value = _json_cell(extra, column)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    return json.dumps(value) if isinstance(value, list | dict) else value


def _json_type(extra: str, column: str) -> str | None:
    """Name a cell's type as SQLite does; absent is None."""
    if column not in json.loads(extra):
        return None
    value = _json_cell(extra, column)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return {int: "integer", float: "real", str: "text", list: "array", dict: "object"}[type(value)]


def _like(value: Any, pattern: str, escape: str) -> int | None:
    if value is None:
        return None
    first, *rest = _pieces(pattern, escape)
    text = str(value).lower()
    if not rest:
        return int(bool(first.fullmatch(text)))
    *middle, last = rest
    found = first.match(text)
    for piece in middle:
        # The leftmost place is as good as any: it leaves most to the pieces behind.
        found = found and piece.search(text, found.end())
    if not found:
        return 0
    # A piece has a fixed length, so the last one can only stand at the end.
    start = len(text) - len(last.pattern and _WIDTH.findall(last.pattern))
    return int(start >= found.end() and bool(last.fullmatch(text, start)))


_WIDTH = re.compile(r"\\.|.", re.DOTALL)


@lru_cache(maxsize=64)
def _pieces(pattern: str, escape: str) -> tuple[re.Pattern[str], ...]:
    """Cut a pattern at each % into expressions of fixed length, so that no text takes long to match."""
    pieces, literal = [""], False
    for character in pattern:
        if literal or character not in ("%", "_", escape):
            pieces[-1] += re.escape(character.lower())
            literal = False
        elif character == escape:
            literal = True
        elif character == "%":
            pieces.append("")
        else:
            pieces[-1] += "."
    return tuple(re.compile(piece, re.DOTALL) for piece in pieces)


def _add_functions(connection: sqlite3.Connection) -> None:
    functions: dict[str, tuple[int, Any]] = {
        "cfcd_number": (1, _number),
        "cfcd_truth": (1, _truth),
        "cfcd_like": (3, _like),
        "cfcd_value": (2, _json_value),
        "cfcd_type": (2, _json_type),
    }
    for name, (count, function) in functions.items():
        connection.create_function(name, count, function, deterministic=True)
