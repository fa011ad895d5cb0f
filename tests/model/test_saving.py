from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")
pytest.importorskip("onnx", reason="the light install has no onnx")
safetensors = pytest.importorskip("safetensors.torch", reason="the light install has no safetensors")

from cfcd.errors import ModelError  # noqa: E402
from cfcd.model import (  # noqa: E402
    DescriptorNet,
    Network,
    Preprocessing,
    Whitening,
    export,
    find_model,
    save_model,
    saving,
)
from cfcd.model.openvino_core import openvino_core  # noqa: E402

PIXELS = Preprocessing("RGB", (127, 127, 127), (128, 128, 128), "hamming", 320, 32)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = DescriptorNet(Network("efficientnet_lite0", 1280, p=2.5, whitening=Whitening(12)))
    net.whitening.batchnorm.running_mean.uniform_(-0.1, 0.1)
    return net.train()


@pytest.fixture(scope="module")
def saved(net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "mine"
    return save_model(net, folder, name="mine", preprocessing=PIXELS, training={"note": "a | b\nc"})


@pytest.fixture
def writable(saved, tmp_path):
    for path in saved.path.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """Leave the export out where only files matter."""
    monkeypatch.setattr(export, "to_onnx", lambda _model: b"graph")
    monkeypatch.setattr(export, "parity", lambda _model, _data: 1.0)


def test_the_folder_holds_what_its_configuration_says(saved):
    assert {path.name for path in saved.path.iterdir()} == {
        "config.json",
        "model.onnx",
        "model.safetensors",
        "README.md",
    }
    for name, digest in saved.config.files.items():
        assert hashlib.sha256((saved.path / name).read_bytes()).hexdigest() == digest
    assert (saved.name, saved.dim, saved.config.network.p) == ("mine", 12, 2.5)
    assert find_model(saved.path) == saved
    assert saved.weights_path == saved.path / "model.safetensors"


def test_the_network_comes_back_whole_and_ready(net, saved):
    assert net.training, "saving leaves the network in its mode"
    state = torch.random.get_rng_state()
    loaded = saved.load_network()
    assert torch.equal(state, torch.random.get_rng_state())
    assert not loaded.training
    assert loaded.config == net.config
    for key, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_onnx_gives_what_the_network_gives(saved):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    core = openvino_core()
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    found = core.compile_model(core.read_model(saved.read_onnx_bytes()), "CPU", options)(pixels)[0]
    with torch.no_grad():
        x = torch.from_numpy((pixels.transpose(0, 3, 1, 2) - np.float32(127)) / np.float32(128))
        g = saved.load_network()(x).numpy()
    np.testing.assert_allclose(found, g / np.linalg.norm(g, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda tensors: tensors.pop("backbone.head.conv.weight"), "misses backbone.head.conv.weight"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "has unexpected extra"),
        (lambda tensors: tensors.update({"whitening.linear.bias": torch.zeros(3)}), "(3,) instead of (12,)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(writable, spoil, words):
    tensors = safetensors.load_file(writable / "model.safetensors")
    spoil(tensors)
    replace_weights(writable, safetensors.save(tensors))
    with pytest.raises(ModelError) as caught:
        find_model(writable).load_network()
    assert words in str(caught.value)


def test_weights_of_another_kind_are_refused(writable):
    replace_weights(writable, b"\x80\x04pickle")
    with pytest.raises(ModelError, match="is not a safetensors file"):
        find_model(writable).load_network()


def test_an_onnx_only_model_says_how_to_get_weights():
    with pytest.raises(ModelError, match="cfcd create OUT --backbone efficientnet_lite0"):
        find_model("imagenet-lite0").load_network()


def replace_weights(folder, data):
    (folder / "model.safetensors").write_bytes(data)
    config = json.loads((folder / "config.json").read_text())
    config["files"]["model.safetensors"] = hashlib.sha256(data).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


def test_saving_again_replaces_the_model_and_leaves_nothing_behind(net, tmp_path, quick):
    for name in ("first", "second"):
        save_model(net, tmp_path / "model", name=name, preprocessing=PIXELS)
    assert find_model(tmp_path / "model").name == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_empty_folder_is_filled(net, tmp_path, quick):
    (tmp_path / "model").mkdir()
    assert save_model(net, tmp_path / "model", name="x", preprocessing=PIXELS).name == "x"


@pytest.mark.parametrize("with_model", [False, True])
def test_anything_else_is_left_alone(net, tmp_path, quick, with_model):
    folder = tmp_path / "model"
    if with_model:
        save_model(net, folder, name="x", preprocessing=PIXELS)
    folder.mkdir(exist_ok=True)
    (folder / "thesis.txt").write_text("precious")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ModelError, match=r"holds something else \(thesis\.txt\)"):
        save_model(net, folder, name="y", preprocessing=PIXELS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_in_the_way_is_left_alone(net, tmp_path, quick):
    (tmp_path / "model").write_text("precious")
    with pytest.raises(ModelError, match="holds something else"):
        save_model(net, tmp_path / "model", name="y", preprocessing=PIXELS)
    assert (tmp_path / "model").read_text() == "precious"


def test_a_failed_move_brings_the_old_model_back(net, tmp_path, quick, monkeypatch):
    save_model(net, tmp_path / "model", name="old", preprocessing=PIXELS)
    move = Path.replace

    def fail_on_new(self, target):
        if self.name == "new":
            raise OSError("no space left")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", fail_on_new)
    with pytest.raises(OSError, match="no space left"):
        save_model(net, tmp_path / "model", name="new", preprocessing=PIXELS)
    assert find_model(tmp_path / "model").name == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_check_writes_nothing(net, tmp_path, quick, monkeypatch):
    def disagree(_model, _data):
        raise ModelError("It disagrees.", "Report it.")

    monkeypatch.setattr(export, "parity", disagree)
    with pytest.raises(ModelError, match="disagrees"):
        save_model(net, tmp_path / "model", name="x", preprocessing=PIXELS)
    assert list(tmp_path.iterdir()) == []
    assert net.training


def test_bad_names_and_records_are_refused_before_any_work(net, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "write_model", None)
    for options in ({"name": "a/b"}, {"name": "x", "training": {"place": tmp_path}}):
        with pytest.raises(ModelError):
            save_model(net, tmp_path / "model", preprocessing=PIXELS, **options)
    assert list(tmp_path.iterdir()) == []
