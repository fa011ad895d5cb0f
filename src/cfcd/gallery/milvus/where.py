"""Conditions on catalog columns as expressions of Milvus, with the meaning they have in `where_sql`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from cfcd.gallery.milvus.cells import as_truth, whole
from cfcd.gallery.milvus.client import literal
from cfcd.gallery.where import Compare, Condition, Group, IsNull, Leaf, Like, OneOf, Value, to_number

# Other names would have to be escaped within paths, for which Milvus has no rules that hold everywhere.
_PLAIN = re.compile(r"[^\W\d][\w .-]*")
_Ways: TypeAlias = Mapping[str, Sequence[Value]]
_NEVER = "number < 0"


def to_expression(condition: Condition) -> str | None:
    """Write a condition over the cells of `milvus_cells`; None where Milvus has no words for it."""
    if isinstance(condition, Group):
        terms = [to_expression(term) for term in condition.terms]
        known = [term for term in terms if term is not None]
        return _joined(condition.operator, known) if len(known) == len(terms) else None
    if isinstance(condition, Like) or not _PLAIN.fullmatch(condition.column):
        return None
    return _leaf(condition)


def exists(column: str) -> str:
    """Ask whether an item has something in a column."""
    return f"exists cells[{literal(column)}]"


def among(field: str, values: Sequence[Value]) -> str:
    """Ask whether a field has one of some values, of whatever types."""
    return _joined("or", [f"{field} in {part}" for part in _lists(values)])


def _leaf(leaf: Leaf) -> str:
    cell = f"cells[{literal(leaf.column)}]"
    if isinstance(leaf, IsNull):
        return exists(leaf.column) if leaf.negated else f"not ({exists(leaf.column)})"
    if isinstance(leaf, Compare):
        is_text = isinstance(leaf.value, str)
        number = to_number(leaf.value) if isinstance(leaf.value, str) else leaf.value
        wanted = {"t" if is_text else "n": leaf.value, "m": number, "f": as_truth(leaf.value)}
        tests = [
            f'{cell}["{kind}"] {leaf.order} {_written(value)}'
            for kind, value in wanted.items()
            if value is not None
        ]
        return _joined("or", tests)
    assert isinstance(leaf, OneOf)
    texts = [one for one in leaf.values if isinstance(one, str)]
    flags = [int(one) for one in leaf.values if isinstance(one, bool)]
    numbers = [one for one in leaf.values if isinstance(one, int | float) and not isinstance(one, bool)]
    read = [*numbers, *(to_number(one) for one in texts)]
    truths = [as_truth(one) for one in leaf.values]
    if not leaf.negated:
        ways: _Ways = {"t": texts, "n": numbers, "b": flags, "m": _known(read), "f": _known(truths)}
        return _joined("or", [among(f'{cell}["{kind}"]', values) for kind, values in ways.items() if values])
    # A comparison that cannot be made is not known to be false, and so its opposite is not true.
    tests = [_none_of(cell, "t", {"t": texts, "n": numbers, "b": flags})]
    if None not in read:
        tests.append(_none_of(cell, "m", {"m": _known(read), "b": flags}))
    if None not in truths:
        tests.append(_none_of(cell, "f", {"f": _known(truths)}))
    return _joined("or", tests)


def _none_of(cell: str, kind: str, ways: _Ways) -> str:
    """Ask whether a cell is of a kind, and known to have none of the values in any way it can be read."""
    tests = [f'exists {cell}["{kind}"]']
    for way, values in ways.items():
        if values:
            tests.append(f'exists {cell}["{way}"]')
            tests += [f'{cell}["{way}"] not in {part}' for part in _lists(values)]
    return _joined("and", tests)


def _known(values: Iterable[Value | None]) -> list[Value]:
    return [value for value in values if value is not None]


def _lists(values: Sequence[Value]) -> list[str]:
    """Write values as lists of one type each."""
    parts: dict[type, list[str]] = {}
    for value in values:
        exact = value if isinstance(value, str) else whole(value)
        parts.setdefault(type(exact), []).append(_written(exact))
    return [f"[{', '.join(part)}]" for part in parts.values()]


def _written(value: Value) -> str:
    return literal(value) if isinstance(value, str) else repr(whole(value))


def _joined(operator: str, terms: Sequence[str]) -> str:
    return f" {operator} ".join(f"({term})" for term in terms) if terms else _NEVER
