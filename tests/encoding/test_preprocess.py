from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.encoding.preprocess import SCALE_SETS, parse_scales, target_size, to_pixels
from cfcd.errors import UsageError
from cfcd.model.config import Preprocessing
from tests.support import make_photo


def preprocessing(
    long_side: int | None = 320, step: int = 32, scales: tuple[float, ...] = (1.0,)
) -> Preprocessing:
    return Preprocessing("RGB", (127.0,) * 3, (128.0,) * 3, "hamming", long_side, step, scales)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((640, 480), 1.0, (320, 256)),  # 240 lies between 224 and 256, the even multiple wins
        ((384, 256), 1.0, (320, 224)),  # 213.3 is nearest to 224
        ((200, 100), 1.0, (192, 96)),  # never scaled up, only rounded
        ((640, 480), 0.5, (160, 128)),
        ((10_000, 10), 1.0, (320, 32)),  # at least one multiple
        ((1, 1), 1.0, (32, 32)),
    ],
)
def test_target_size_by_hand(size: tuple[int, int], scale: float, expected: tuple[int, int]) -> None:
    assert target_size(*size, preprocessing(), scale) == expected


@given(
    width=st.integers(1, 20_000),
    height=st.integers(1, 20_000),
    limit=st.none() | st.integers(32, 2048),
    step=st.integers(1, 64),
    scale=st.floats(0.05, 8),
)
def test_target_size_is_the_nearest_multiple(
    width: int, height: int, limit: int | None, step: int, scale: float
) -> None:
    target = target_size(width, height, preprocessing(limit, step), scale)
    factor = scale if limit is None else scale * min(1.0, limit / max(width, height))
    for side, found in zip((width, height), target, strict=True):
        assert found % step == 0
        assert found >= step
        assert found == step or abs(found - side * factor) <= step / 2 + 1e-6


def test_no_limit_and_no_multiple_keep_every_pixel() -> None:
    photo = make_photo(0, (101, 67))
    pixels = to_pixels(photo, preprocessing(None, 1), 1.0)
    assert pixels.shape == (67, 101, 3)
    assert pixels.tobytes() == photo.tobytes()


def test_parse_scales() -> None:
    assert parse_scales("3") == SCALE_SETS["3"] == (0.7071, 1.0, 1.4142)
    assert len(parse_scales("5")) == 5
    assert parse_scales("0.5,2") == (0.5, 2.0)


@pytest.mark.parametrize("text", ["", "a", "0", "1,,2", "7", "9.5", "nan", "-1"])
def test_parse_scales_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="scales"):
        parse_scales(text)
