from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.errors import ModelError
from cfcd.model.config import ModelConfig, Network, Preprocessing, Whitening

PIXELS = Preprocessing("RGB", (127, 127, 127), (128, 128, 128), "hamming", 320, 32)
NETWORK = Network("efficientnet_lite0", 1280)

numbers = st.floats(0, 255, allow_nan=False)
triples = st.tuples(numbers, numbers, numbers)
preprocessings = st.builds(
    Preprocessing,
    channel_order=st.sampled_from(["RGB", "BGR"]),
    mean=triples,
    std=st.tuples(*[st.floats(0.01, 255)] * 3),
    resize=st.sampled_from(["bilinear", "bicubic", "hamming", "lanczos"]),
    long_side=st.none() | st.integers(16, 4096),
    side_multiple=st.integers(1, 64),
    scales=st.lists(st.floats(0.1, 4), min_size=1, max_size=5).map(tuple),
)
networks = st.builds(
    Network,
    backbone=st.sampled_from(["efficientnet_lite0", "resnet50", "resnet101"]),
    channels=st.integers(1, 4096),
    p=st.floats(0.5, 6),
    whitening=st.none() | st.builds(Whitening, dim=st.integers(2, 4096), batchnorm=st.booleans()),
) | st.builds(
    Network,
    backbone=st.just("transformers"),
    channels=st.integers(1, 4096),
    backbone_config=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
)
configs = st.builds(
    ModelConfig,
    name=st.from_regex(r"[a-z][a-z0-9._-]{0,20}", fullmatch=True),
    network=networks,
    preprocessing=preprocessings,
    training=st.dictionaries(st.text(max_size=5), st.integers() | st.lists(st.text(max_size=3)), max_size=3),
    files=st.dictionaries(st.just("model.onnx"), st.just("0" * 64), max_size=1),
)


@given(configs)
def test_survives_json(config):
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_whole_numbers_are_the_same_setting_as_decimals():
    assert Preprocessing("RGB", (127.0,) * 3, (128.0,) * 3, "hamming", 320, 32, (1,)) == PIXELS
    assert json.dumps(PIXELS.mean) == "[127.0, 127.0, 127.0]"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prepocessing": {}}, "unknown key 'prepocessing'. Did you mean 'preprocessing'"),
        ({"network": {"backbone": "efficientnet_lite0"}}, "network lacks the key 'channels'"),
        ({"network": None}, "network must be"),
        ({"network": {"backbone": "resnet5", "channels": 4}}, "Did you mean 'resnet50'"),
        (
            {"network": {"backbone": "resnet50", "channels": 4, "whitening": {"dims": 3}}},
            "Did you mean 'dim'",
        ),
        ({"format": 2}, "format 2; this version of cfcd reads format 1"),
        ({"name": "../up"}, "name must be"),
        ({"name": None}, "name must be"),
        ({"files": {"../model.onnx": "0" * 64}}, "plain file names"),
        ({"files": {"sub/model.onnx": "0" * 64}}, "plain file names"),
        ({"files": {"model.onnx": "0" * 63}}, "SHA-256"),
        ({"training": []}, "training must be"),
        ({"training": {"loss": float("nan")}}, "JSON values"),
        ({"training": {"place": object()}}, "JSON values"),
    ],
)
def test_names_what_is_wrong(change, words):
    values = ModelConfig("x", NETWORK, PIXELS).to_dict() | change
    with pytest.raises(ModelError) as caught:
        ModelConfig.from_dict(values)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": [1, 2]}, "three numbers"),
        ({"mean": [1, 2, float("inf")]}, "finite"),
        ({"mean": [1, 2, 10**400]}, "finite"),
        ({"mean": "127"}, "list of numbers"),
        ({"std": [1, 0, 1]}, "above 0"),
        ({"resize": "hammin"}, "Did you mean 'hamming'"),
        ({"resize": ["hamming"]}, "must be one of"),
        ({"channel_order": "rgb"}, "must be one of RGB, BGR"),
        ({"long_side": 8}, "long_side"),
        ({"long_side": 320.0}, "long_side"),
        ({"long_side": True}, "long_side"),
        ({"side_multiple": 0}, "side_multiple"),
        ({"scales": []}, "1 to 16 numbers"),
        ({"scales": [0.001]}, "between 0.05 and 8"),
    ],
)
def test_preprocessing_names_what_is_wrong(change, words):
    values = ModelConfig("x", NETWORK, PIXELS).to_dict()["preprocessing"] | change
    with pytest.raises(ModelError) as caught:
        Preprocessing.from_dict(values)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"p": 0}, "above 0"),
        ({"p": 10}, "underflows; raise eps"),
        ({"eps": 0}, "between 0 and 1"),
        ({"channels": 0}, "channels"),
        ({"whitening": {"dim": 1}}, "whitening.dim"),
        ({"whitening": {"batchnorm": 1}}, "true or false"),
        ({"whitening": [512]}, "JSON object"),
        ({"backbone_config": {}}, "does not go with efficientnet_lite0"),
        ({"backbone": "transformers"}, "must hold the transformers configuration"),
    ],
)
def test_network_names_what_is_wrong(change, words):
    values = ModelConfig("x", NETWORK, PIXELS).to_dict()["network"] | change
    with pytest.raises(ModelError) as caught:
        Network.from_dict(values)
    assert words in str(caught.value)


def test_a_large_exponent_is_accepted_with_the_floor_it_asks_for():
    assert Network("resnet50", 2048, p=10, eps=10**-3.6).p == 10


def test_dim_is_that_of_the_whitening_or_the_channels():
    assert NETWORK.dim == 1280
    assert Network("resnet50", 2048, whitening=Whitening(512)).dim == 512
