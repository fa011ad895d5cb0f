from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")
pytest.importorskip("transformers", reason="the light install has no transformers")
safetensors = pytest.importorskip("safetensors.torch", reason="the light install has no safetensors")

from torch import nn  # noqa: E402

from cfcd.errors import ModelError  # noqa: E402
from cfcd.model import backbones  # noqa: E402
from cfcd.model.create import create_model  # noqa: E402
from cfcd.model.foreign import load_resnet, torchvision_name  # noqa: E402
from tests.model.made import saved_elsewhere  # noqa: E402

WIDTHS = (64, 128, 256, 512)
DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


class Bottleneck(nn.Module):
    """A block as He et al. describe it, stride in the 3x3; its parts are named as in torchvision and timm."""

    def __init__(self, inside, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride > 1 or inside != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    def __init__(self, depths):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inside = 64
        for stage, (blocks, width) in enumerate(zip(depths, WIDTHS, strict=True)):
            layer = nn.Sequential()
            for block in range(blocks):
                layer.append(Bottleneck(inside, width, 2 if block == 0 and stage > 0 else 1))
                inside = 4 * width
            self.add_module(f"layer{stage + 1}", layer)
        self.fc = nn.Linear(2048, 1000)

    def last_map(self, x):
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    net = ResNet(DEPTHS["resnet50"]).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize("name", DEPTHS)
def test_every_tensor_has_its_place(name):
    with torch.device("meta"):
        theirs = ResNet(DEPTHS[name]).state_dict()
        ours = backbones.build_transformers(backbones.RESNETS[name]).state_dict()
    found = {torchvision_name(key): value.shape for key, value in ours.items()}
    assert found == {key: value.shape for key, value in theirs.items() if not key.startswith("fc.")}


@pytest.mark.parametrize("form", ["torchvision.pth", "timm.safetensors", "script.pth.tar"])
def test_gives_the_map_of_the_foreign_network(reference, tmp_path, form):
    state = reference.state_dict()
    file = tmp_path / form
    if form.startswith("timm"):
        safetensors.save_file(state, file)
    elif form.startswith("script"):
        wrapped = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 3, "state_dict": wrapped, "optimizer": {"state": {}}}, file)
    else:
        torch.save(state, file)
    made = create_model("resnet50", weights=str(file), dim=16)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(made.net.last_map(x), reference.last_map(x), rtol=1e-4, atol=1e-4)
    assert made.net.last_map(x).std() > 0.01
    assert made.training["weights"].startswith(f"pretrained: {form}")
    assert made.training["left_out"] == ["fc.bias", "fc.weight"]
    assert len(made.training["sha256"]) == 64
    assert made.training["whitening"].startswith("untrained")
    assert (made.preprocessing.channel_order, made.preprocessing.resize) == ("RGB", "bilinear")
    assert made.preprocessing.mean == pytest.approx((123.675, 116.28, 103.53))
    assert made.preprocessing.std == pytest.approx((58.395, 57.12, 57.375))


@pytest.fixture
def small(reference):
    """The foreign tensors with one stored number each, to keep files small."""
    return {key: value.new_ones(()).expand(value.shape) for key, value in reference.state_dict().items()}


def test_the_classifier_may_be_absent(small, tmp_path):
    torch.save({key: value for key, value in small.items() if key[:2] != "fc"}, tmp_path / "a.pth")
    backbone, left = load_resnet("resnet50", tmp_path / "a.pth")
    assert left == []
    assert backbone.channels == 2048


def renamed(tensors, old, new):
    return {key.replace(old, new): value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: renamed(t, "layer1.0.bn1.", "layer1.0.norm."), "misses layer1.0.bn1.weight"),
        (lambda t: {**t, "layer4.3.bias": torch.ones(1)}, "has unexpected layer4.3.bias"),
        (
            lambda t: {**t, "layer1.0.conv1.weight": torch.ones(128, 64, 1, 1)},
            "(128, 64, 1, 1) instead of (64",
        ),
        (
            lambda t: {**t, "bn1.bias": torch.full((64,), torch.inf)},
            "bn1.bias holds values that are not finite",
        ),
        (lambda t: renamed(t, "conv1.weight", "conv1.0.weight"), "with a deep stem (such as resnet50d)"),
        (
            lambda t: renamed(renamed(t, "downsample.1", "downsample.2"), "downsample.0", "downsample.1"),
            "with pooled shortcuts",
        ),
        (lambda t: {**t, "layer1.0.se.fc1.weight": torch.ones(1)}, "with channel attention"),
        (lambda t: {f"layer3.{n}.conv3.weight": torch.ones(1) for n in range(23)}, "holds a ResNet-101, not"),
        (lambda t: {f"layer3.{n}.conv3.weight": torch.ones(1) for n in range(36)}, "holds a ResNet-152, not"),
        (lambda t: {"resnet.embedder.embedder.convolution.weight": torch.ones(1)}, "a transformers model"),
        (lambda t: {"blocks.0.weight": torch.ones(1)}, "misses conv1.weight"),
    ],
)
def test_another_network_is_named(small, tmp_path, spoil, words):
    torch.save(spoil(small), tmp_path / "a.pth")
    with pytest.raises(ModelError) as caught:
        create_model("resnet50", weights=tmp_path / "a.pth")
    assert words in caught.value.what
    assert caught.value.what.endswith(".")
    assert caught.value.mend.endswith(".")


def test_a_damaged_or_absent_file_is_explained(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match="is no file of weights, or is damaged"):
        create_model("resnet50", weights=tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="No such file"):
        create_model("resnet50", weights=tmp_path / "b.pth")


def test_only_resnets_take_files(small, tmp_path):
    torch.save(small, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="takes its own ImageNet weights or random ones"):
        create_model("efficientnet_lite0", weights=tmp_path / "a.pth")


def test_the_command_takes_a_file(reference, tmp_path, monkeypatch, capsys):
    from cfcd.cli.create import create as command
    from cfcd.model import create

    torch.save(reference.state_dict(), tmp_path / "a.pth")
    saved = []
    monkeypatch.setattr(
        create, "save_model", lambda net, *_, **facts: saved.append(net) or saved_elsewhere(net, **facts)
    )
    command(tmp_path / "x", backbone="resnet50", weights=str(tmp_path / "a.pth"))
    weight = saved[0].backbone.model.embedder.embedder.convolution.weight
    assert torch.equal(weight, reference.conv1.weight)
    assert "pretrained: a.pth" in capsys.readouterr().out
