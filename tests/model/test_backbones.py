from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")
transformers = pytest.importorskip("transformers", reason="the light install has no transformers")

from cfcd.errors import ModelError  # noqa: E402
from cfcd.model import backbones  # noqa: E402
from cfcd.model.config import Network  # noqa: E402

TINY_VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 8,
}


def tiny(**values):
    return Network("transformers", 16, backbone_config={**TINY_VIT, **values})


def test_resnet_strides_in_the_middle_convolution_and_ends_in_relu():
    net = backbones.build_backbone(Network("resnet50", 2048)).eval()
    strided = [
        name
        for name, module in net.named_modules()
        if isinstance(module, torch.nn.Conv2d) and module.stride == (2, 2) and "stages.1.layers.0" in name
    ]
    assert len(strided) == 2
    assert all("layer.1." in name or "shortcut" in name for name in strided)
    assert sum(value.numel() for value in net.parameters()) == 23_508_032
    with torch.no_grad():
        maps = net(torch.randn(1, 3, 65, 96))
    assert maps.shape == (1, 2048, 3, 3)
    assert maps.min() >= 0


def test_resnet101_has_the_published_size():
    with torch.device("meta"):
        net = backbones.build_backbone(Network("resnet101", 2048))
    assert sum(value.numel() for value in net.parameters()) == 42_500_160


def test_tokens_are_laid_out_row_by_row_without_the_class_token():
    net = backbones.build_backbone(tiny()).eval()
    x = torch.randn(2, 3, 24, 40)
    with torch.no_grad():
        maps = net(x)
        tokens = net.model(x, interpolate_pos_encoding=True).last_hidden_state
    assert maps.shape == (2, 16, 3, 5)
    assert tokens.shape == (2, 16, 16)
    torch.testing.assert_close(maps[:, :, 1, 2], tokens[:, 1 + 1 * 5 + 2])


def test_pooling_layers_that_nothing_uses_are_not_built():
    assert not any("pooler" in key for key in backbones.build_backbone(tiny()).state_dict())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Network("resnet50", 512), "network.channels is 512, but resnet50 has 2048"),
        (tiny(model_type="none-such"), "no backbone of model_type 'none-such'"),
        (tiny(model_type="timm_backbone"), "no backbone of model_type 'timm_backbone'"),
        (tiny(model_type=None), "no backbone of model_type None"),
        (tiny(model_type="superpoint"), "no picture backbone for the model type 'superpoint'"),
        (tiny(architectures=["AutoModel"]), "class must be ViTModel"),
        (tiny(hidden_size="wide"), "does not accept the configuration"),
    ],
)
def test_what_cannot_be_built_is_explained(config, words):
    with pytest.raises(ModelError) as caught:
        backbones.build_backbone(config)
    assert words in str(caught.value)


def test_nothing_in_a_configuration_can_name_code_to_fetch():
    values = {"_attn_implementation": "owner/kernel", "attn_implementation": "owner/kernel", "auto_map": {}}
    assert backbones.clean_config({**values, "depths": [1]}) == {"depths": [1]}
    net = backbones.build_backbone(tiny(**values))
    assert net.model.config._attn_implementation in ("sdpa", "eager")


@pytest.mark.parametrize(
    ("name", "values", "stride"),
    [
        ("ViTConfig", {"patch_size": 14}, 14),
        ("SwinConfig", {}, 32),
        ("ConvNextConfig", {}, 32),
        ("ResNetConfig", {}, 32),
    ],
)
def test_stride_follows_from_the_configuration(name, values, stride):
    assert backbones.map_stride(getattr(transformers, name)(**values)) == stride


TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 12, 16, 20],
    "depths": [1, 2, 1, 1],
    "layer_type": "bottleneck",
    "downsample_in_bottleneck": False,
}


@pytest.mark.parametrize("kind", ["ResNetBackbone", "ResNetModel"])
def test_stages_of_a_resnet_make_the_map_one_after_the_other(kind):
    torch.manual_seed(0)
    values = {**TINY_RESNET, "architectures": [kind]}
    net = backbones.build_backbone(Network("transformers", 20, backbone_config=values)).eval()
    stages = net.stages()
    assert len(stages) == 5
    x = maps = torch.randn(2, 3, 64, 96)
    shapes = []
    with torch.no_grad():
        expected = net(x)
        for stage in stages:
            maps = stage(maps)
            shapes.append((maps.shape[1], x.shape[2] // maps.shape[2]))
    assert torch.equal(maps, expected)
    assert shapes == [(8, 4), (8, 4), (12, 8), (16, 16), (20, 32)]
    owned = [id(value) for stage in stages for value in stage.parameters()]
    assert sorted(owned) == sorted(id(value) for value in net.parameters())


def test_other_networks_are_one_stage():
    net = backbones.build_backbone(tiny()).eval()
    (only,) = net.stages()
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(only(x), net(x))
    assert only(x).shape == (1, 16, 2, 2)
