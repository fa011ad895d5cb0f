from __future__ import annotations

import json

import numpy as np
import pytest

from cfcd.errors import ModelError
from cfcd.explaining import Explanation, Match, Regions


def regions(shares, area=(0.0, 0.0, 40.0, 20.0)):
    return Regions(np.array(shares, float), 0.0, area, (40, 20), np.ones(3, np.float32))


def explained(shares, other=None, score=None, matches=()):
    one = regions(shares)
    score = float(np.sum(shares)) if score is None else score
    return Explanation("m@1", score, one, regions(other or shares), tuple(matches), 1.0)


def test_the_strongest_region_is_the_fewest_cells_that_have_the_part():
    found = regions([[0.1, 0.4], [0.25, 0.05]])
    assert found.strongest(0.5).tolist() == [[False, True], [False, False]]
    assert found.strongest(0.51).tolist() == [[False, True], [True, False]]
    assert found.strongest(1.0).all()


def test_cells_against_a_match_are_never_needed():
    found = regions([[0.5, 0.3], [-0.1, -0.1]])
    assert found.against == pytest.approx(-0.2)
    assert found.strongest(1.0).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("shares", [[[0.0, 0.0]], [[0.1, -0.3]], [[0.2, -0.15]]])
def test_no_region_is_marked_where_none_decides(shares):
    found = regions(shares)
    assert not found.decided
    assert not found.strongest().any()


def test_shares_within_a_box_count_cut_cells_in_part():
    found = regions([[1.0, 2.0], [3.0, 4.0]])
    assert found.within((0, 0, 40, 20)) == pytest.approx(10)
    assert found.within((0, 0, 20, 10)) == pytest.approx(1)
    assert found.within((10, 0, 30, 20)) == pytest.approx(5)
    assert found.within((-50, -50, 0, 90)) == 0
    assert found.within((100, 0, 200, 20)) == 0
    moved = regions([[1.0, 2.0], [3.0, 4.0]], (20.0, 10.0, 40.0, 20.0))
    assert moved.boxed
    assert moved.within((20, 10, 30, 15)) == pytest.approx(1)
    assert not found.boxed


def test_shares_cannot_be_changed_and_must_add_up():
    found = explained([[0.2, 0.3]])
    with pytest.raises(ValueError, match="read-only"):
        found.query.shares[0, 0] = 1
    for score in (0.51, float("nan")):
        with pytest.raises(ModelError, match="miss the score"):
            explained([[0.2, 0.3]], score=score)
    with pytest.raises(ModelError, match="miss the score"):
        explained([[0.2, 0.3]], [[0.2, 0.31]])


def test_plain_data_has_everything():
    match = Match((1.0, 2.0), (30.04, 4.0), 0.75, True)
    plain = json.loads(json.dumps(explained([[0.2, 0.3]], matches=[match]).to_json()))
    assert plain["score"] == 0.5
    assert plain["query"]["shares"] == [[0.2, 0.3]]
    assert plain["hit"]["grid"] == [1, 2]
    assert plain["query"]["area"] == [0, 0, 40, 20]
    assert plain["matches"] == [{"query": [1, 2], "hit": [30, 4], "cosine": 0.75, "distinct": True}]
    assert set(plain["checks"]) == {"parity", "error"}
