from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfcd.encoding import Encoder, Reading, load_model, runtimes
from cfcd.errors import (
    MissingExtra,
    ModelError,
    PictureError,
    TruncatedPicture,
    UnreadablePicture,
    UsageError,
)
from tests.support import make_photo


@pytest.fixture(scope="module")
def model() -> Encoder:
    return load_model("imagenet-lite0", device="cpu", precision="fp32")


def test_every_kind_of_source_gives_the_same_unit_row(model: Encoder, tmp_path: Path) -> None:
    photo = make_photo(1)
    file = tmp_path / "photo.png"
    photo.save(file)
    array = np.asarray(photo)
    expected = model.encode(photo)
    assert expected.shape == (1, model.dim)
    assert expected.dtype == np.float32
    assert np.linalg.norm(expected) == pytest.approx(1, abs=1e-5)
    for source in (
        file,
        str(file),
        file.read_bytes(),
        io.BytesIO(file.read_bytes()),
        array,
        [photo],
        array[None],
    ):
        assert np.allclose(model.encode(source), expected, atol=1e-6)


def test_rows_come_in_the_order_of_the_pictures(model: Encoder) -> None:
    shapes = [(96, 64), (64, 96), (96, 96), (96, 64), (40, 200)] * 20
    pictures = [make_photo(seed, shape) for seed, shape in enumerate(shapes)]
    together = model.encode(pictures)
    assert together.shape == (100, model.dim)
    for row in (0, 1, 2, 31, 32, 33, 64, 99):
        assert np.allclose(together[row], model.encode(pictures[row])[0], atol=1e-5)


def test_no_pictures_give_no_rows(model: Encoder) -> None:
    assert model.encode([]).shape == (0, model.dim)


def test_scales_are_the_normalised_mean_of_unit_rows() -> None:
    photo = make_photo(2, (320, 224))
    scales = (0.5, 1.0, 1.4142)
    single = [load_model(scales=[scale], precision="fp32").encode(photo)[0] for scale in scales]
    mean = np.mean(single, axis=0)
    found = load_model(scales=scales, precision="fp32").encode(photo)[0]
    assert np.allclose(found, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_box_is_the_crop(model: Encoder) -> None:
    photo = make_photo(3, (300, 200))
    boxed = model.encode(photo, box=(50, 20, 210, 148))
    assert np.allclose(boxed, model.encode(photo.crop((50, 20, 210, 148))), atol=1e-6)
    assert not np.allclose(boxed, model.encode(photo), atol=1e-2)


def test_bf16_is_close_to_fp32(model: Encoder) -> None:
    photo = make_photo(4, (320, 240))
    half = load_model(precision="bf16").encode(photo)[0]
    assert float(half @ model.encode(photo)[0]) > 0.995


def test_stream_gives_errors_in_their_place(model: Encoder) -> None:
    def load(number: int) -> Image.Image:
        if number % 3 == 1:
            raise UnreadablePicture(f"number {number} is broken.", "Mend it.")
        return make_photo(number)

    results = list(model.stream(range(70), load))
    assert [job for job, _ in results] == list(range(70))
    for job, result in results:
        assert isinstance(result, PictureError) == (job % 3 == 1)


def test_a_stream_left_early_stops(model: Encoder) -> None:
    loaded = []

    def load(number: int) -> Image.Image:
        loaded.append(number)
        return make_photo(number)

    stream = model.stream(range(10_000), load)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(loaded) < 500


def test_a_fault_that_is_no_picture_error_is_not_swallowed(model: Encoder) -> None:
    def load(number: int) -> Image.Image:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(model.stream(range(3), load))


def test_truncated_pictures(tmp_path: Path) -> None:
    file = tmp_path / "cut.jpg"
    make_photo(5, (640, 480)).save(file)
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(TruncatedPicture):
        load_model().encode(file)
    lenient = load_model(reading=Reading(allow_truncated=True))
    assert lenient.encode(file).shape == (1, lenient.dim)


def test_asking_for_the_identity_loads_no_network() -> None:
    encoder = load_model()
    assert encoder.encode([]).shape == (0, 1280)
    assert len(encoder.identity) == 64
    assert encoder.dim == 1280
    assert "runtime" not in encoder.__dict__


def test_preprocessing_is_part_of_the_identity() -> None:
    identities = {
        load_model().identity,
        load_model(long_side=512).identity,
        load_model(scales=(1.0, 0.5)).identity,
    }
    assert len(identities) == 3
    assert load_model(long_side=320).identity == load_model().identity


@pytest.mark.parametrize(("options", "word"), [({"precision": "int4"}, "int4"), ({"device": "tpu"}, "tpu")])
def test_unknown_options_are_refused(options: dict[str, str], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        load_model(**options).encode(make_photo(0))  # type: ignore[arg-type]


def test_a_missing_gpu_is_refused() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises((UsageError, MissingExtra, ModelError)):
        load_model(device="cuda").encode(make_photo(0))


def test_torch_and_openvino_agree(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from cfcd.model import create_model

    folder = create_model("efficientnet_lite0", dim=64).save(tmp_path / "model", name="small")
    pictures = [make_photo(seed, size) for seed, size in enumerate([(320, 240), (240, 320), (320, 240)] * 4)]
    with_torch = load_model(folder, device="torch-cpu", precision="fp32").encode(pictures)
    with_openvino = load_model(folder, device="cpu", precision="fp32").encode(pictures)
    assert with_torch.shape == (12, 64)
    assert np.min(np.sum(with_torch * with_openvino, axis=1)) > 0.99999


@pytest.mark.parametrize(("resize", "wanted"), [("bilinear_plain", "fp32"), ("box", "auto")])
def test_the_authors_preprocessing_asks_for_full_precision(
    resize: str, wanted: str, model: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "OpenVinoRuntime", lambda _, precision: precision)
    config = model.model.config
    made = replace(config, preprocessing=replace(config.preprocessing, resize=resize))
    for given, used in (("auto", wanted), ("bf16", "bf16")):
        assert runtimes.choose_runtime(replace(model.model, config=made), "cpu", given) == used
