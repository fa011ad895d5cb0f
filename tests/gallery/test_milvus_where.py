"""What Milvus is asked; that it means what SQLite means is tested against a server in test_milvus.py."""

from __future__ import annotations

import pytest

from cfcd.gallery.milvus.where import among, to_expression
from cfcd.gallery.where import parse_where


def test_a_text_is_compared_as_text_number_or_truth() -> None:
    cell = 'cells["year"]'
    assert to_expression(parse_where("year >= 1990")) == f'({cell}["n"] >= 1990) or ({cell}["m"] >= 1990)'
    assert to_expression(parse_where("year > '1'")) == (
        f'({cell}["t"] > "1") or ({cell}["m"] > 1) or ({cell}["f"] > 1)'
    )


def test_an_opposite_is_true_only_of_what_can_be_compared() -> None:
    expression = to_expression(parse_where("city != 'Nice'"))
    assert expression is not None
    assert 'exists cells["city"]["t"]' in expression
    assert '["m"]' not in expression  # no number is known to differ from a text that is no number


@pytest.mark.parametrize("text", ["city like 'N%'", '"a\\" = 1', '"a""b" = 1', "x = 1 and city like 'N%'"])
def test_what_milvus_cannot_say(text: str) -> None:
    assert to_expression(parse_where(text)) is None


def test_values_are_quoted() -> None:
    assert among("item", ['a" or 1', "b\\"]) == '(item in ["a\\" or 1", "b\\\\"])'
    assert among("item", []) == "number < 0"
