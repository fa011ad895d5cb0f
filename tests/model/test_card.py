from __future__ import annotations

import pytest

from cfcd.model import ModelConfig, Network, Preprocessing, Whitening, find_model
from cfcd.model.card import model_card

PIXELS = Preprocessing("BGR", (1, 2, 3), (4, 5, 6), "bicubic", None, 14, (0.7071, 1.0))


def test_says_what_the_model_is_and_how_to_use_it():
    network = Network("resnet50", 2048, p=2.5, whitening=Whitening(512))
    config = ModelConfig("mine", network, PIXELS, {"weights": "random"}, {"model.onnx": "a" * 64})
    text = model_card(config, 0.9999987)
    for words in (
        "# mine",
        "ResNet-50",
        "2048 channels, p = 2.5",
        "a linear layer to 512 numbers with batch normalisation",
        'cfcd.load_model("path/to/mine")',
        "cosine 0.999999",
        "| channel order | BGR |",
        "| long side limit | none |",
        "| scales | 0.7071, 1 |",
        "- weights: random",
        f"| model.onnx | `{'a' * 64}` |",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("record", "line"),
    [
        ({"note": "one\n# two"}, "- note: one # two"),
        ({"left_out": ["a", "b"]}, '- left out: ["a", "b"]'),
        ({}, "Nothing was recorded."),
    ],
)
def test_any_record_stays_a_list(record, line):
    config = ModelConfig("x", Network("efficientnet_lite0", 1280), PIXELS, record)
    assert line in model_card(config, 1.0).splitlines()


def test_names_a_transformers_backbone_by_its_type():
    network = Network("transformers", 384, backbone_config={"model_type": "dinov2"})
    assert "dinov2 (transformers)" in model_card(ModelConfig("x", network, PIXELS), 1.0)


def test_card_of_the_built_in_model_has_the_example_that_works():
    text = (find_model("imagenet-lite0").path / "README.md").read_text()
    assert 'cfcd.load_model("imagenet-lite0")' in text
    assert find_model("imagenet-lite0").config.files["model.onnx"] in text
