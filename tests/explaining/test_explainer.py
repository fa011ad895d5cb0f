from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cfcd.encoding import Encoder, Reading
from cfcd.errors import ModelError, PictureError, PictureTooLarge
from cfcd.explaining import Explainer, explain
from cfcd.model import find_model
from cfcd.pictures import PictureLimits
from tests.support import make_photo


def with_scales(explainer, *scales):
    """The same loaded network at other scales."""
    old = explainer.encoder
    new = Explainer(Encoder(old.model.with_preprocessing(scales=scales), "cpu", "fp32"))
    new._network = explainer._network
    return new


def check_sums(found, score):
    assert found.score == pytest.approx(score, abs=1e-5)
    for side in (found.query, found.hit):
        assert side.shares.sum() == pytest.approx(score, abs=1e-5)
        assert np.linalg.norm(side.descriptor) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scales", [(1.0,), (0.7071, 1.0, 1.4142)])
def test_shares_add_up_to_the_score_of_the_encoder(explainer, pair, scales):
    explainer = with_scales(explainer, *scales)
    rows = explainer.encoder.encode(list(pair))
    found = explainer.explain(*pair)
    check_sums(found, float(rows[0] @ rows[1]))
    np.testing.assert_allclose(found.query.descriptor, rows[0], atol=1e-6)
    np.testing.assert_allclose(found.hit.descriptor, rows[1], atol=1e-6)
    assert found.parity > 0.9999
    assert found.error < 1e-5
    # 160 pixels at the largest scale, 32 for each position.
    longest = round(160 * max(scales) / 32)
    assert (found.query.shares.shape[1], found.hit.shares.shape[0]) == (longest, longest)
    assert found.query.size == (200, 120)
    assert found.query.area == (0, 0, 200, 120)
    assert found.model == explainer.encoder.model.label


def test_boxes_are_explained_in_pixels_of_the_whole_picture(explainer, pair):
    boxes = (50.4, 19.6, 400.0, 110.0), (-5.0, 40.0, 130.0, 140.0)
    rows = np.concatenate(
        [explainer.encoder.encode(one, box=box) for one, box in zip(pair, boxes, strict=True)]
    )
    found = explainer.explain(*pair, boxes=boxes)
    check_sums(found, float(rows[0] @ rows[1]))
    assert found.query.area == (50, 20, 200, 110)
    assert found.hit.area == (0, 40, 130, 140)
    assert found.query.boxed
    for match in found.matches:
        assert 50 < match.query[0] < 200 and 20 < match.query[1] < 110
        assert 0 < match.hit[0] < 130 and 40 < match.hit[1] < 140
    crops = explainer.explain(pair[0].crop((50, 20, 200, 110)), pair[1].crop((0, 40, 130, 140)))
    np.testing.assert_allclose(found.query.shares, crops.query.shares, atol=1e-6)


def test_a_picture_explains_itself_with_a_score_of_one(explainer, pair):
    found = explainer.explain(pair[0], pair[0])
    check_sums(found, 1.0)
    np.testing.assert_allclose(found.query.shares, found.hit.shares, atol=1e-12)
    assert len(found.matches) == found.query.shares.size // 2
    for match in found.matches:
        assert match.query == match.hit
        assert match.distinct


def test_query_and_hit_swapped_swap_their_shares(explainer, pair):
    one, other = explainer.explain(*pair), explainer.explain(pair[1], pair[0])
    np.testing.assert_allclose(one.query.shares, other.hit.shares, atol=1e-9)
    np.testing.assert_allclose(one.hit.shares, other.query.shares, atol=1e-9)


def test_what_is_common_has_the_shares(explainer):
    """The left half of one picture in the right half of another, on other grounds."""
    detail = np.random.default_rng(0).integers(0, 256, (160, 80, 3), np.uint8)
    first, second = (np.full((160, 160, 3), grey, np.uint8) for grey in (128, 90))
    first[:, :80], second[:, 80:] = detail, detail
    found = explainer.explain(first, second)
    assert found.query.within((0, 0, 80, 160)) > 0.6 * found.score
    assert found.hit.within((80, 0, 160, 160)) > 0.6 * found.score


def test_every_kind_of_source_and_threads_give_the_same(explainer, pair, tmp_path):
    file = tmp_path / "query.png"
    pair[0].save(file)
    expected = explainer.explain(*pair)
    sources = [str(file), file.read_bytes(), io.BytesIO(file.read_bytes()), np.asarray(pair[0])]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda source: explainer.explain(source, pair[1]), sources):
            np.testing.assert_allclose(found.query.shares, expected.query.shares, atol=1e-7)
            assert found.matches == expected.matches


def test_large_maps_are_matched_at_a_smaller_scale(explainer, pair, monkeypatch):
    explainer = with_scales(explainer, 0.5, 1.0, 2.0)
    monkeypatch.setattr("cfcd.explaining.explainer._MOST_POSITIONS", 10**6)
    assert len(explainer.explain(pair[0], pair[0]).matches) == 5 * 3 // 2
    for most in (8, 1):  # the half scale fits, or none does and the smallest is taken
        monkeypatch.setattr("cfcd.explaining.explainer._MOST_POSITIONS", most)
        assert len(explainer.explain(pair[0], pair[0]).matches) == 2 * 2 // 2


def test_an_encoder_is_enough(explainer, pair):
    found = explain(explainer.encoder, *pair)
    assert found.score == pytest.approx(explainer.explain(*pair).score, abs=1e-6)


def test_a_model_that_pools_in_another_way_is_refused(pair):
    model = find_model("imagenet-lite0")
    for change in ({"p": 1.0}, {"p": 6.0}):
        config = replace(model.config, network=replace(model.config.network, **change))
        wrong = Encoder(replace(model, config=config), "cpu", "fp32")
        with pytest.raises(ModelError, match=r"cannot be explained: .* cosine 0\.9"):
            explain(wrong, *pair)


def test_pictures_that_cannot_be_read_are_named(explainer, pair, tmp_path):
    with pytest.raises(PictureError, match=r"nothing\.jpg"):
        explainer.explain(pair[0], tmp_path / "nothing.jpg")
    with pytest.raises(PictureError, match="lies in the box"):
        explainer.explain(*pair, boxes=(None, (500, 500, 600, 600)))
    reading = Reading(limits=PictureLimits(max_pixels=1000))
    small = Explainer(Encoder(explainer.encoder.model, "cpu", "fp32", reading))
    small._network = explainer._network
    with pytest.raises(PictureTooLarge):
        small.explain(*pair)


def test_turned_photos_are_explained_upright(explainer, tmp_path):
    photo, file = make_photo(7, (160, 96)), tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    photo.save(file, exif=exif, quality=95)
    found = explainer.explain(file, file, boxes=(None, (0, 0, 96, 80)))
    assert found.query.size == (96, 160)
    assert found.hit.area == (0, 0, 96, 80)
