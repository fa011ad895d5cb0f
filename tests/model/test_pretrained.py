from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")
transformers = pytest.importorskip("transformers", reason="the light install has no transformers")
safetensors = pytest.importorskip("safetensors.torch", reason="the light install has no safetensors")

from cfcd.errors import ModelError  # noqa: E402
from cfcd.model import pretrained  # noqa: E402

HALF = [0.5, 0.5, 0.5]
STAGES = {"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 1, 1]}
TINY = {
    "resnet": (
        "ResNetConfig",
        "ResNetForImageClassification",
        {**STAGES, "embedding_size": 4, "layer_type": "basic"},
    ),
    "convnext": ("ConvNextConfig", "ConvNextModel", STAGES),
    "dinov2": (
        "Dinov2Config",
        "Dinov2Model",
        {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
        },
    ),
}


@pytest.fixture(scope="module")
def nets():
    torch.manual_seed(0)
    return {
        name: getattr(transformers, kind)(getattr(transformers, config)(**values)).eval()
        for name, (config, kind, values) in TINY.items()
    }


@pytest.fixture(scope="module")
def folders(nets, tmp_path_factory):
    root = tmp_path_factory.mktemp("transformers")
    for name, net in nets.items():
        net.save_pretrained(root / name)
    return root


@pytest.mark.parametrize(
    ("name", "kind", "left"),
    [
        ("resnet", "ResNetBackbone", ["classifier.1.bias", "classifier.1.weight"]),
        # Its backbone class has a normalisation that the published weights lack, so the base class is taken.
        ("convnext", "ConvNextModel", []),
        ("dinov2", "Dinov2Backbone", []),
    ],
)
def test_weights_come_over_whole(nets, folders, name, kind, left):
    backbone, stored, unused = pretrained.load_backbone(pretrained.open_source(folders / name))
    assert stored["architectures"] == [kind]
    assert unused == left
    side = backbone.stride
    x = torch.randn(2, 3, 6 * side, 8 * side)
    with torch.no_grad():
        found = backbone.eval()(x)
        expected = nets[name].base_model(x).last_hidden_state
    if name == "dinov2":
        expected = expected[:, 1:].transpose(1, 2).reshape(2, 16, 6, 8)
    assert found.shape == (2, 16, 6, 8)
    torch.testing.assert_close(found, expected)


def test_the_stored_configuration_is_only_about_the_network(folders):
    config = pretrained.open_source(folders / "resnet").config
    assert config["hidden_sizes"] == [4, 8, 12, 16]
    assert not {"id2label", "transformers_version", "_name_or_path", "dtype"} & set(config)
    assert str(folders) not in json.dumps(config)


@pytest.mark.parametrize(
    ("values", "mean", "std", "resize"),
    [
        (None, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "bicubic"),
        ({"image_mean": HALF, "image_std": HALF, "resample": 2}, (127.5,) * 3, (127.5,) * 3, "bilinear"),
        ({"do_normalize": False}, (0,) * 3, (255,) * 3, "bicubic"),
        ({"do_rescale": False, "image_mean": HALF, "image_std": HALF}, HALF, HALF, "bicubic"),
    ],
)
def test_colours_follow_the_image_processor(folders, tmp_path, values, mean, std, resize):
    (tmp_path / "config.json").write_bytes((folders / "resnet" / "config.json").read_bytes())
    if values is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    colours = pretrained.open_source(tmp_path).colours
    assert colours["mean"] == pytest.approx(mean)
    assert colours["std"] == pytest.approx(std)
    assert colours["resize"] == resize


def test_incomplete_weights_are_refused(folders, tmp_path):
    saved = safetensors.load_file(folders / "dinov2" / "model.safetensors")
    saved.pop("layernorm.weight")
    safetensors.save_file(saved, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((folders / "dinov2" / "config.json").read_bytes())
    with pytest.raises(ModelError, match=r"lack 1 tensors of the backbone, such as layernorm\.weight"):
        pretrained.load_backbone(pretrained.open_source(tmp_path))


def test_pickled_weights_are_refused(folders, tmp_path):
    saved = safetensors.load_file(folders / "dinov2" / "model.safetensors")
    torch.save(saved, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((folders / "dinov2" / "config.json").read_bytes())
    with pytest.raises(ModelError, match="safetensors"):
        pretrained.load_backbone(pretrained.open_source(tmp_path))


def test_a_text_model_is_refused(tmp_path):
    config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="gives no map for a picture"):
        pretrained.random_backbone(pretrained.open_source(tmp_path))


def test_a_folder_that_is_no_model_is_explained(tmp_path):
    with pytest.raises(ModelError, match="cannot be read as a transformers model"):
        pretrained.open_source(tmp_path)


def test_a_hub_that_gives_nothing_is_explained(monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("We couldn't connect to the hub.\nmore")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(ModelError) as caught:
        pretrained.open_source("owner/none-such")
    assert "There is no folder owner/none-such, and the hub did not give" in caught.value.what
    assert caught.value.what.endswith("We couldn't connect to the hub.")


def test_folders_never_ask_the_hub_and_code_is_never_run(folders):
    assert pretrained._options(folders / "resnet") == {"local_files_only": True, "trust_remote_code": False}
    assert pretrained._options("owner/name") == {"local_files_only": False, "trust_remote_code": False}
