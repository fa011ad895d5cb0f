from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from cfcd.errors import MissingExtra, ModelError
from cfcd.model import extras, find_model
from cfcd.model.config import ModelConfig
from cfcd.model.folder import MAX_CONFIG_BYTES, ModelFolder, built_in_names, check_tensors


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(find_model("imagenet-lite0").path, tmp_path / "imagenet-lite0")


def test_built_in_model_is_whole():
    model = find_model("imagenet-lite0")
    assert built_in_names() == ["imagenet-lite0"]
    assert (model.name, model.dim) == ("imagenet-lite0", 1280)
    assert model.label == f"imagenet-lite0@{model.identity[:12]}"
    assert model.onnx_path == model.path / "model.onnx"
    assert model.weights_path is None
    data = model.read_onnx_bytes()
    assert hashlib.sha256(data).hexdigest() == model.config.files["model.onnx"]
    assert len(data) < 8_000_000
    assert "Apache License" in (model.path / "LICENSE").read_text()
    assert "Apache-2.0" in (model.path / "README.md").read_text()


def test_built_in_preprocessing_is_what_was_measured():
    pixels = find_model("imagenet-lite0").config.preprocessing
    assert (pixels.resize, pixels.long_side, pixels.side_multiple) == ("box", 320, 32)
    assert (pixels.mean, pixels.std, pixels.scales) == ((127.0,) * 3, (128.0,) * 3, (1.0,))


def test_reading_a_model_loads_no_heavy_library():
    code = (
        "import sys; from cfcd.model import find_model; m = find_model('imagenet-lite0'); "
        "m.read_onnx_bytes(); m.identity; "
        "print([n for n in ('torch', 'openvino', 'transformers', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_identity_follows_what_changes_descriptors_and_nothing_else(copy):
    model = find_model(copy)
    assert model.identity == find_model("imagenet-lite0").identity
    config = model.config
    network = replace(config.network, p=4.0)
    weights = replace(config, files={"model.onnx": "0" * 64})
    same = [replace(config, name="other"), replace(config, training={"note": 1})]
    other = [replace(config, network=network), weights]
    assert {ModelFolder(copy, item).identity for item in same} == {model.identity}
    assert len({model.identity, *(ModelFolder(copy, item).identity for item in other)}) == 3


def test_identity_prefers_the_torch_weights():
    config = find_model("imagenet-lite0").config
    files = {"model.safetensors": "1" * 64}
    first = ModelFolder(None, replace(config, files=files | {"model.onnx": "2" * 64}))
    second = ModelFolder(None, replace(config, files=files | {"model.onnx": "3" * 64}))
    assert first.identity == second.identity


def test_identity_does_not_drift_between_versions():
    # Galleries are bound to it: a change here makes every existing gallery refuse its own model.
    config = find_model("imagenet-lite0").config
    fixed = replace(config, files={"model.onnx": "0" * 64})
    assert ModelFolder(None, fixed).identity[:16] == "8d6430e66bfe7650"


def test_other_preprocessing_is_another_identity():
    model = find_model("imagenet-lite0")
    larger = model.with_preprocessing(long_side=448)
    whole = model.with_preprocessing(long_side=None)
    scales = model.with_preprocessing(scales=(0.7071, 1.0))
    assert larger.config.preprocessing.long_side == 448
    assert whole.config.preprocessing.long_side is None
    assert scales.config.preprocessing.long_side == 320
    assert len({item.identity for item in (model, larger, whole, scales)}) == 4
    assert model.with_preprocessing(long_side=320).identity == model.identity
    assert larger.read_onnx_bytes() == model.read_onnx_bytes()
    with pytest.raises(ModelError, match="scales"):
        model.with_preprocessing(scales=())


def test_reference_finds_the_model_again_from_anywhere(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = find_model("./imagenet-lite0").reference
    monkeypatch.chdir("/")
    assert find_model(relative).path.samefile(copy)
    assert find_model("imagenet-lite0").reference == "imagenet-lite0"


def test_unknown_names_and_empty_folders_are_explained(tmp_path):
    with pytest.raises(ModelError, match="Did you mean 'imagenet-lite0'"):
        find_model("imagenet-lite")
    with pytest.raises(ModelError, match=r"holds no model: it has no config\.json"):
        find_model(tmp_path)


def test_a_path_never_means_a_built_in_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError):
        find_model("./imagenet-lite0")


def test_changed_weights_are_refused(copy):
    path = copy / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="is not the file"):
        find_model(copy).read_onnx_bytes()
    path.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        find_model(copy).read_onnx_bytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must be a JSON object"),
        ('{"name": "x"}', "lacks the key"),
        (" " * (MAX_CONFIG_BYTES + 1), "too large"),
    ],
)
def test_bad_configurations_are_refused(copy, text, words):
    (copy / "config.json").write_text(text)
    with pytest.raises(ModelError, match=words):
        find_model(copy)


def test_a_model_without_onnx_says_so(copy):
    config = find_model(copy).config
    model = ModelFolder(copy, replace(config, files={}))
    assert model.onnx_path is None
    with pytest.raises(ModelError, match=r"has no model\.onnx"):
        model.read_onnx_bytes()


def test_the_light_install_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match=r'pip install "cfcd\[train\]"'):
        find_model("imagenet-lite0").load_network()


def test_config_of_the_built_in_model_reads_back():
    path = find_model("imagenet-lite0").path / "config.json"
    values = json.loads(path.read_text())
    assert ModelConfig.from_dict(values).to_dict() == values


def test_tensors_that_do_not_fit_are_named():
    found = {"a": (1,), "b": (2, 2), **{f"extra{number}": (1,) for number in range(7)}}
    with pytest.raises(ModelError) as caught:
        check_tensors(found, {"b": (2, 3), "c": (1,)}, "weights")
    text = str(caught.value)
    for words in ("misses c", "b (2, 2) instead of (2, 3)", "unexpected a, extra0", "and 3 more"):
        assert words in text
    check_tensors(found, dict(found), "weights")


def test_the_folder_of_a_training_run_leads_to_its_model(copy, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.move(copy, tmp_path / "run" / "model")
    found = find_model(tmp_path / "run")
    assert found.path == tmp_path / "run" / "model"
    assert found.identity == find_model("imagenet-lite0").identity
