"""Conditions: what they find, against a slow interpreter, and what hostile text does to them."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfcd.errors import UsageError
from cfcd.gallery.where import Compare, Condition, Group, IsNull, Like, OneOf, parse_where
from cfcd.gallery.where_sql import matching_rows

TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
TABLE = """CREATE TABLE items (number INTEGER PRIMARY KEY, id TEXT, path TEXT, label TEXT, split TEXT,
    is_query INTEGER, is_gallery INTEGER, x_1 REAL, y_1 REAL, x_2 REAL, y_2 REAL, extra TEXT)"""
COLUMNS = ("city", "year", "taken by", 'the "best"', "back\\slash", "Größe")


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.execute(TABLE)
    yield connection
    connection.close()


def fill(connection: sqlite3.Connection, rows: list[dict[str, Any]], label: str | None = "x") -> None:
    connection.execute("DELETE FROM items")
    for number, extra in enumerate(rows, start=1):
        values = (number, f"id{number}", f"/p/{number}.jpg", label, json.dumps(extra, ensure_ascii=False))
        connection.execute(
            "INSERT INTO items (number, id, path, label, extra) VALUES (?, ?, ?, ?, ?)", values
        )


def found(connection: sqlite3.Connection, where: str) -> list[int]:
    return matching_rows(connection, parse_where(where)).tolist()


# --- a slow interpreter of the same tree, written from the documentation ---


def as_truth(value: Any) -> bool | None:
    if isinstance(value, str):
        return TRUTHS.get(value.strip().lower())
    return bool(value) if value in (0, 1) else None


def as_number(value: Any) -> float | None:
    if isinstance(value, str):
        looks = re.fullmatch(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*", value)
        return float(value) if looks else None
    return value


def pair(cell: Any, value: Any) -> tuple[Any, Any] | None:
    """Both sides as they are compared, None where that is unknown."""
    if cell is None or cell == "" or isinstance(cell, list | dict):
        return None
    if isinstance(cell, bool) or isinstance(value, bool):
        sides = as_truth(cell), as_truth(value)
    elif isinstance(cell, int | float) or isinstance(value, int | float):
        sides = as_number(cell), as_number(value)
    else:
        sides = cell, value
    return None if None in sides else sides


def fits(text: str, pattern: str, escape: str) -> bool:
    if not pattern:
        return not text
    if escape and pattern[0] == escape:
        if len(pattern) == 1:
            return not text
        return text[:1] == pattern[1] and fits(text[1:], pattern[2:], escape)
    if pattern[0] == "%":
        return any(fits(text[start:], pattern[1:], escape) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("_", text[0]) and fits(text[1:], pattern[1:], escape)


def holds(condition: Condition, row: dict[str, Any]) -> bool | None:
    if isinstance(condition, Group):
        results = [holds(term, row) for term in condition.terms]
        decisive = condition.operator == "or"
        return decisive if decisive in results else None if None in results else not decisive
    cell = row.get(condition.column)
    if isinstance(condition, IsNull):
        return (cell is None or cell == "") != condition.negated
    if isinstance(condition, Compare):
        sides = pair(cell, condition.value)
        if sides is None:
            return None
        left, right = sides
        return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[
            condition.order
        ]
    if isinstance(condition, Like):
        whole = isinstance(cell, int) and not isinstance(cell, bool)
        if not (whole or (isinstance(cell, str) and cell)):
            return None
        pattern, escape = condition.pattern.lower(), condition.escape.lower()
        return fits(str(cell).lower(), pattern, escape) != condition.negated
    assert isinstance(condition, OneOf)
    results = [
        None if (sides := pair(cell, one)) is None else sides[0] == sides[1] for one in condition.values
    ]
    if True in results:
        return not condition.negated
    return None if None in results else condition.negated


# --- random conditions and rows ---

WORDS = (
    "",
    "Nice",
    "nice",
    "Paris",
    "it's",
    '"q"',
    "a%b",
    "a_b",
    "été",
    "日本",
    "x\ty",
    "\\",
    "1990 a",
    "++1",
)
DIGITS = ("1990", " 1990 ", "1e3", "007", "-5", ".5", "true", "No", "1", "0")
TEXTS = st.sampled_from([*WORDS, *DIGITS])
NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([1990, 1000, 0.5, -2.25, 5e-05, 10**15, 2**40 + 1]))
CELLS = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none(), st.sampled_from([[], [1], {"a": 1}]))
ROWS = st.lists(st.dictionaries(st.sampled_from(COLUMNS), CELLS), min_size=1, max_size=12)


def word(column: str) -> str:
    return column if re.fullmatch(r"[^\W\d]\w*", column) else '"' + column.replace('"', '""') + '"'


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


KEYWORDS = ["and", "or", "not", "in", "like", "is", "null", "true", "escape"]
TOKENS = [*KEYWORDS, *"=<(),;'\"a1\0", "--", "/*", "'x'", '"n"']
NAMES = st.sampled_from(COLUMNS).map(word)
LITERALS = st.one_of(TEXTS, NUMBERS, st.booleans()).map(literal)
ORDERED = st.one_of(TEXTS, NUMBERS).map(literal)
PATTERNS = st.text("aN%_ie'\\1", max_size=6).map(literal)
LEAVES = st.one_of(
    st.builds("{} {} {}".format, NAMES, st.sampled_from(["=", "!=", "<>", "=="]), LITERALS),
    st.builds("{} {} {}".format, NAMES, st.sampled_from(["<", "<=", ">", ">="]), ORDERED),
    st.builds(
        "{} {} ({})".format,
        NAMES,
        st.sampled_from(["in", "NOT IN"]),
        st.lists(LITERALS, min_size=1, max_size=4).map(", ".join),
    ),
    st.builds("{} {} {}".format, NAMES, st.sampled_from(["like", "not like"]), PATTERNS),
    st.builds("{} like {} escape '\\'".format, NAMES, PATTERNS),
    st.builds("{} is {}".format, NAMES, st.sampled_from(["null", "not null"])),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) or ({})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(where=CONDITIONS, rows=ROWS, broken=st.booleans())
def test_it_finds_what_the_slow_interpreter_finds(
    database: sqlite3.Connection, where: str, rows: list[dict[str, Any]], broken: bool
) -> None:
    # A last row that has every column, so that all are known; with NaN SQLite cannot read it, Python must.
    every = {**dict.fromkeys(COLUMNS, "Nice"), **({"city": float("nan")} if broken else {})}
    fill(database, [*rows, every])
    condition = parse_where(where)
    read = [*rows, {**every, "city": None} if broken else every]
    expected = [number for number, row in enumerate(read, start=1) if holds(condition, row)]
    assert matching_rows(database, condition).tolist() == expected


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_a_usage_error(text: str) -> None:
    try:
        parse_where(text)
    except UsageError as error:
        assert error.what.count("\n") == 0
        assert error.what.endswith(".")
        assert len(error.what) < 200


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=14).map(" ".join))
def test_any_tokens_are_a_condition_or_a_usage_error(database: sqlite3.Connection, text: str) -> None:
    fill(database, [{"a": 1, "n": "x"}])
    try:
        matching_rows(database, parse_where(text))
    except UsageError as error:
        assert "\n" not in error.what


# --- what documentation promises, by example ---

PEOPLE = [
    {"city": "Nice", "year": "1990", "taken by": "Ann"},
    {"city": "Nice", "year": 2001, "taken by": "Bo's"},
    {"city": "Paris", "year": "unknown", "taken by": ""},
    {"city": "", "year": None},
]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("city = 'Nice' and year >= 1990", [1, 2]),
        ("year >= 1990", [1, 2]),
        ("year > 1990", [2]),
        ("year = '2001'", [2]),
        ("year = 1990.0", [1]),
        ("not year = 1990", [2]),
        ("city != 'Nice'", [3]),
        ("city is null", [4]),
        ("year is null or city is null", [4]),
        ("\"taken by\" = 'Bo''s'", [2]),
        ('"taken by" is null', [3, 4]),
        ("CITY like 'n%'", [1, 2]),
        ("city in ('Paris', 'Nice') and not (year = 2001)", [1]),
        ("city = 'Paris' or city = 'Nice' and year = 2001", [2, 3]),
        ("(city = 'Paris' or city = 'Nice') and year = 2001", [2]),
        ("label = 'x' and id in ('id1', 'id4', 'nothing')", [1, 4]),
        ("path like '%/3.jpg'", [3]),
        ("split is null and is_query is null and x_1 is null and id = 'id2'", [2]),
        ("year like '20%'", [2]),
    ],
)
def test_examples(database: sqlite3.Connection, where: str, expected: list[int]) -> None:
    fill(database, PEOPLE)
    assert found(database, where) == expected


def test_numbers_of_built_in_text_columns(database: sqlite3.Connection) -> None:
    fill(database, PEOPLE, label="0042")
    assert found(database, "label = 42") == [1, 2, 3, 4]
    assert found(database, "label = '42'") == []
    assert found(database, "id like 'ID_' and not id like '%4'") == [1, 2, 3]


@pytest.mark.parametrize(
    ("where", "what", "mend"),
    [
        ("", "ends where a column", "city = 'Nice'"),
        ("city", "ends where =", "city = 'Nice'"),
        ("city = Nice", "'Nice' at character 8", "single quotes: 'Nice'"),
        ('city = "Nice"', "at character 8", "single quotes: 'Nice'"),
        ("city = null", "where a value", "is null"),
        ("'Nice' = city", "where a column", "comes first"),
        ("city = 'Nice", "never closed", "twice: ''"),
        ("city = 'Nice' year = 3", "where and, or, or the end", ""),
        ("(city = 'Nice'", "ends where )", ""),
        ("flag < true", "which have an order", ""),
        ("city ~ 'x'", 'cannot be read from "~', ""),
        ("city = 'a'; drop table items", "cannot be read from '; drop", ""),
        ("year = 12abc", "cannot be read from", ""),
        ("city like 5", "a text in single quotes", ""),
        ("city like 'x' escape 'ab'", "not one character", ""),
        ("city not = 5", "in or like", ""),
        ("a\0 = 'x'", "NUL", ""),
        ("a = '\udcff'", "no text", ""),
        ("a = '" + "x" * 2**20 + "'", "1,048,582 characters", ""),
        ("(" * 10_000 + "a = 1" + ")" * 10_000, "parentheses", "flatter"),
        (" or ".join(["a = 1"] * 1000), "more than 400 comparisons", "in (...)"),
        ("a in (" + ",".join(["1"] * 10_001) + ")", "more than 10,000 values", "ids"),
    ],
)
def test_mistakes_are_named(where: str, what: str, mend: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_where(where)
    assert what in caught.value.what
    assert mend in caught.value.mend


def test_the_largest_conditions_can_be_looked_up(database: sqlite3.Connection) -> None:
    fill(database, PEOPLE)
    assert found(database, " or ".join(f"year = {1500 + n}" for n in range(400))) == []
    assert found(database, f"year in ({','.join(map(str, range(9_999)))}, '1990')") == [1, 2]
    deep = "year = 1990 and city in ('Nice', 5, true)"
    for level in range(14):
        deep = f"({deep}) {'or' if level % 2 else 'and'} not (city like '%x' escape '\\' or year < 3)"
    rows = [*enumerate(PEOPLE, start=1)]
    assert (
        found(database, deep) == [number for number, row in rows if holds(parse_where(deep), row)] == [1, 2]
    )
    assert found(database, "not " * 10_001 + "year = 1990") == [2]


def test_unknown_columns_name_the_nearest(database: sqlite3.Connection) -> None:
    fill(database, PEOPLE)
    with pytest.raises(UsageError, match="'ctiy'; the nearest is 'city'") as caught:
        found(database, "ctiy = 'Nice'")
    assert "'taken by'" in caught.value.mend
    with pytest.raises(UsageError, match="nearest is 'label'"):
        found(database, "labels = 'x'")
    with pytest.raises(UsageError, match="no column 'xxxx"):
        found(database, '"' + "x" * 90_000 + '" = 1')
    fill(database, [{"City": 1, "CITY": 2}])
    with pytest.raises(UsageError, match="no column 'city'"):
        found(database, "city = 1")


def test_a_pattern_that_would_take_a_backtracking_matcher_ages(database: sqlite3.Connection) -> None:
    fill(database, [{"city": "a" * 5000}])
    assert found(database, f"city like '{'%a' * 60}%b'") == []
    assert found(database, f"city like '{'%a' * 60}'") == [1]
