"""The language of `--where`: conditions on catalog columns, read into a tree.

    condition:   city = 'Nice' and (year >= 1990 or not "taken by" in ('Ann', 'Bo''s'))
    comparison:  COLUMN = != < <= > >= VALUE,  COLUMN [not] in (VALUE, ...),
                 COLUMN [not] like 'PATTERN' [escape 'C'],  COLUMN is [not] null
    VALUE:       'text' ('' is a quote in it), a number, true, false

`not` binds closer than `and`, and that closer than `or`. Keywords may be in any case. A column whose name is
more than letters, digits, _ and . stands in double quotes. The tree has no `not`: it is moved into the
comparisons, which the three-valued logic of SQL allows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from cfcd.errors import UsageError

Value: TypeAlias = str | int | float | bool
Order: TypeAlias = Literal["<", "<=", ">", ">="]

MOST_CHARACTERS = 100_000
MOST_VALUES = 10_000  # SQLite binds 32,766
MOST_COMPARISONS = 400  # SQLite's expressions are at most 1,000 deep, and a chain is as deep as it is long
DEEPEST = 15  # parentheses within parentheses: the parser of SQLite before 3.46 gives up at about 20

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>'[^']*(?:''[^']*)*')
  | (?P<name>"[^"]*(?:""[^"]*)*")
  | (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?!\w))
  | (?P<word>[^\W\d][\w.]*)
  | (?P<sign><=|>=|!=|<>|==|[=<>(),])
  | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "like", "is", "null", "true", "false", "escape"})
_SIGNS = {"==": "=", "<>": "!="}
_OPPOSITE: dict[Order, Order] = {"<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_EXAMPLE = "Write it like city = 'Nice' and year >= 1990."


@dataclass(frozen=True)
class Compare:
    """Compare a column with a value by order."""

    column: str
    order: Order
    value: str | int | float


@dataclass(frozen=True)
class OneOf:
    """Ask whether a column has one of the values, or none of them."""

    column: str
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True)
class Like:
    """Ask whether a text fits a pattern: % stands for any characters, _ for one, `escape` takes that away."""

    column: str
    pattern: str
    escape: str = ""
    negated: bool = False


@dataclass(frozen=True)
class IsNull:
    """Ask whether a column is empty."""

    column: str
    negated: bool = False


@dataclass(frozen=True)
class Group:
    """Join at least two conditions; none of them is a group of the same kind."""

    operator: Literal["and", "or"]
    terms: tuple[Condition, ...]


Leaf: TypeAlias = Compare | OneOf | Like | IsNull
Condition: TypeAlias = Leaf | Group


def parse_where(text: str) -> Condition:
    """Read a condition.

    Raises:
        UsageError: It is no condition, is longer than 100,000 characters, or has more comparisons, values
            or nested parentheses than can be looked up.
    """
    if len(text) > MOST_CHARACTERS:
        raise UsageError(
            f"The condition has {len(text):,} characters, more than {MOST_CHARACTERS:,}.",
            "Shorten it, or choose items by their ids.",
        )
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("The condition holds NUL or bytes that are no text.", _EXAMPLE)
    return _Parser(text).parse()


def leaves(condition: Condition) -> list[Leaf]:
    """List the comparisons of a condition, left to right."""
    if isinstance(condition, Group):
        return [leaf for term in condition.terms for leaf in leaves(term)]
    return [condition]


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int


class _Parser:
    """Recursive descent over the tokens of a text; every step consumes what it recognises."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._at = 0
        self._depth = 0
        self._comparisons = self._values = 0

    def parse(self) -> Condition:
        condition = self._either()
        if self._next.kind != "end":
            raise self._error("and, or, or the end")
        return condition

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while not tokens or tokens[-1].kind != "end":
            match = _TOKEN.match(self._text, at)
            if match is None:
                start = at + len(self._text[at:]) - len(self._text[at:].lstrip())
                raise self._unreadable(start)
            kind = str(match.lastgroup)
            written, at = match[kind], match.end()
            if kind in {"text", "name"}:
                written = written[1:-1].replace(written[0] * 2, written[0])
            elif kind == "word" and written.lower() in _KEYWORDS:
                kind, written = "keyword", written.lower()
            tokens.append(_Token(kind, _SIGNS.get(written, written), match.start(match.lastgroup or 0)))
        return tokens

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> str | None:
        """Go past the next keyword or sign if it is one of these."""
        token = self._next
        if token.kind in {"keyword", "sign"} and token.text in texts:
            self._at += 1
            return token.text
        return None

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            raise self._error(sign)

    def _either(self) -> Condition:
        terms = [self._all()]
        while self._take("or"):
            terms.append(self._all())
        return _group("or", terms)

    def _all(self) -> Condition:
        terms = [self._inverted()]
        while self._take("and"):
            terms.append(self._inverted())
        return _group("and", terms)

    def _inverted(self) -> Condition:
        negated = False
        while self._take("not"):
            negated = not negated
        if self._take("("):
            self._depth += 1
            if self._depth > DEEPEST:
                raise UsageError(
                    f"The condition has more than {DEEPEST} parentheses within each other.",
                    "Write it flatter.",
                )
            condition = self._either()
            self._need(")")
            self._depth -= 1
        else:
            condition = self._comparison()
        return _negated(condition) if negated else condition

    def _comparison(self) -> Condition:
        token = self._next
        if token.kind not in {"word", "name"}:
            raise self._error("a column")
        self._at += 1
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise UsageError(
                f"The condition has more than {MOST_COMPARISONS} comparisons.",
                "Join comparisons of one column to COLUMN in (...), or choose items by their ids.",
            )
        if self._take("is"):
            negated = bool(self._take("not"))
            self._need("null")
            return IsNull(token.text, negated)
        negated = bool(self._take("not"))
        if self._take("in"):
            return OneOf(token.text, self._list(), negated)
        if self._take("like"):
            return self._like(token.text, negated)
        operator = None if negated else self._take("=", "!=", "<", "<=", ">", ">=")
        if operator is None:
            raise self._error("in or like" if negated else "=, !=, <, <=, >, >=, in, like or is")
        start = self._at
        value = self._value()
        if operator in {"=", "!="}:
            return OneOf(token.text, (value,), operator == "!=")
        if isinstance(value, bool):
            self._at = start
            raise self._error("a text or a number, which have an order,")
        return Compare(token.text, operator, value)  # type: ignore[arg-type]

    def _list(self) -> tuple[Value, ...]:
        self._need("(")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._need(")")
        return tuple(values)

    def _like(self, column: str, negated: bool) -> Like:
        pattern, escape = self._string(), ""
        if self._take("escape"):
            escape = self._string()
            if len(escape) != 1:
                raise UsageError("The text after escape is not one character.", "Write escape '\\'.")
        return Like(column, pattern, escape, negated)

    def _string(self) -> str:
        if self._next.kind != "text":
            raise self._error("a text in single quotes")
        self._at += 1
        return self._tokens[self._at - 1].text

    def _value(self) -> Value:
        self._values += 1
        if self._values > MOST_VALUES:
            raise UsageError(
                f"The condition has more than {MOST_VALUES:,} values.", "Choose items by their ids."
            )
        token = self._next
        if token.kind in {"text", "number"}:
            self._at += 1
            return token.text if token.kind == "text" else to_number(token.text) or 0
        if truth := self._take("true", "false"):
            return truth == "true"
        raise self._error("a value")

    def _error(self, expected: str) -> UsageError:
        token = self._next
        if token.kind == "end":
            return UsageError(f"The condition ends where {expected} is expected.", _EXAMPLE)
        mend = _EXAMPLE
        if expected == "a value" and token.kind in {"word", "name"}:
            mend = f"A text stands in single quotes: {quoted(token.text)}."
        elif expected == "a value" and token.text == "null":
            mend = "Write COLUMN is null, or COLUMN is not null."
        elif expected == "a column" and token.kind in {"text", "number"}:
            mend = 'The column comes first; a name with spaces stands in double quotes: "taken by".'
        return UsageError(f"The condition has {self._near(token.start)} where {expected} is expected.", mend)

    def _unreadable(self, start: int) -> UsageError:
        opened = self._text[start : start + 1]
        if opened in {"'", '"'}:
            return UsageError(
                f"The condition opens a quote that is never closed: {self._near(start)}.",
                f"Close it, and write a quote within quotes twice: {opened * 2}.",
            )
        return UsageError(f"The condition cannot be read from {self._near(start)}.", _EXAMPLE)

    def _near(self, start: int) -> str:
        piece = self._text[start : start + 24]
        return f"{ascii(piece) if not piece.isprintable() else repr(piece)} at character {start + 1:,}"


def to_number(text: str) -> int | float | None:
    """Read a decimal number such as 1990, -0.5 or 1e6, with or without spaces around; None if it is none."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    # Whole numbers that SQLite holds exactly stay whole.
    return int(text) if match[1] and len(match[1]) <= 18 else float(text)


_NUMBER = re.compile(
    r"[ \t]*[+-]?(?:([0-9]+)|[0-9]+\.[0-9]*|\.[0-9]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]+)[ \t]*"
)


def quoted(text: str) -> str:
    """Write a text as a value of the language, shortened for messages."""
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    return "'" + shown.replace("'", "''") + "'"


def _group(operator: Literal["and", "or"], terms: list[Condition]) -> Condition:
    flat: list[Condition] = []
    for term in terms:
        same = isinstance(term, Group) and term.operator == operator
        flat += term.terms if same and isinstance(term, Group) else (term,)
    return flat[0] if len(flat) == 1 else Group(operator, tuple(flat))


def _negated(condition: Condition) -> Condition:
    if isinstance(condition, Group):
        operator: Literal["and", "or"] = "or" if condition.operator == "and" else "and"
        return _group(operator, [_negated(term) for term in condition.terms])
    if isinstance(condition, Compare):
        return replace(condition, order=_OPPOSITE[condition.order])
    return replace(condition, negated=not condition.negated)
