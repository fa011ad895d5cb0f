from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")
pytest.importorskip("transformers", reason="the light install has no transformers")
safetensors = pytest.importorskip("safetensors.torch", reason="the light install has no safetensors")

import cfcd  # noqa: E402
from cfcd.errors import CfcdError, ModelError, UsageError  # noqa: E402
from cfcd.model import DescriptorNet, Network, NewModel, Whitening, export, find_model  # noqa: E402
from cfcd.model.config import PRESETS, preset_of  # noqa: E402
from cfcd.model.official import import_official, official_model, official_name  # noqa: E402
from tests.model.golden_network import GOLDEN, needs_golden, official_keys, official_resnet50  # noqa: E402

THIRD_CONVOLUTION = "globalmodel.s3.b{}.f.c.weight"
COUNTER = "bn.num_batches_tracked"


@needs_golden
@pytest.mark.parametrize("depth", [50, 101])
def test_the_authors_tensors_have_their_place(depth):
    with torch.device("meta"):
        net = DescriptorNet(Network(f"resnet{depth}", 2048, whitening=Whitening(512)))
    found = {official_name(key): list(value.shape) for key, value in net.state_dict().items()}
    assert found == official_keys(depth)


@pytest.fixture(scope="module")
def tensors():
    """Random values under the authors' names."""
    torch.manual_seed(0)
    net = DescriptorNet(Network("resnet50", 2048, whitening=Whitening(512)))
    net.whitening.batchnorm.running_mean.normal_()
    return {official_name(key): value for key, value in net.state_dict().items()}


def write(folder, tensors, **more):
    torch.save({"model_state": tensors, **more}, folder / "a.pyth")
    return folder / "a.pyth"


def assert_same(net, tensors):
    for key, value in net.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, tensors[official_name(key)]), key


@pytest.fixture(scope="module")
def golden_model(tmp_path_factory):
    """A training checkpoint of the golden network, imported with its head."""
    pytest.importorskip("onnx", reason="the light install has no onnx")
    folder = tmp_path_factory.mktemp("official")
    state = official_resnet50(np.load(GOLDEN / "official_r50.npz"))
    state["desc_cls.weight"] = torch.arange(3 * 512.0).view(3, 512)
    momentum = {"state": {0: {"momentum_buffer": torch.zeros(4)}}, "param_groups": [{"lr": 0.1}]}
    file = write(folder, state, epoch=49, optimizer_state=momentum, cfg="TRAIN:\n  IM_SIZE: 512\n")
    return import_official(file, folder / "r50", depth=50, keep_head=True)


@needs_golden
@pytest.mark.parametrize(("kind", "scales"), [("single", (1.0,)), ("multi", None)])
def test_descriptors_are_the_authors(golden_model, kind, scales):
    golden = np.load(GOLDEN / "official_r50.npz")
    encoder = cfcd.load_model(golden_model.path, device="cpu", precision="fp32", scales=scales)
    names = [key.removesuffix("/rgb") for key in golden.files if key.endswith("/rgb")]
    assert len(names) >= 2
    for name in names:
        found = encoder.encode(golden[f"{name}/rgb"])[0].astype(np.float64)
        expected = golden[f"{name}/{kind}"].astype(np.float64)
        # Measured: 1 - 1e-10 for one scale; 1 - 1.3e-6 for five, where resized pixels are rounded to bytes.
        assert found @ expected / np.linalg.norm(expected) >= 0.99999, name


@needs_golden
def test_the_folder_carries_preprocessing_head_and_record(golden_model):
    assert find_model(golden_model.path) == golden_model
    assert golden_model.config.preprocessing == PRESETS["official"]
    assert preset_of(golden_model.config.preprocessing) == "official"
    assert {path.name for path in golden_model.path.iterdir()} == {
        "README.md",
        "config.json",
        "head.safetensors",
        "model.onnx",
        "model.safetensors",
    }
    assert set(golden_model.config.files) == {"head.safetensors", "model.onnx", "model.safetensors"}
    assert torch.equal(golden_model.load_head(), torch.arange(3 * 512.0).view(3, 512))
    assert golden_model.config.training["class_head"] == "3 classes"
    card = (golden_model.path / "README.md").read_text()
    for words in (
        "a.pyth",
        "authors' weights are theirs",
        "| preset | `official`",
        "| channel order | BGR |",
    ):
        assert words in card
    assert "INTER_LINEAR" in card
    assert "long side limit | none" in card


@needs_golden
def test_a_damaged_head_is_found(golden_model, tmp_path):
    for path in golden_model.path.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "head.safetensors").unlink()
    (tmp_path / "head.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="SHA-256 differs"):
        find_model(tmp_path).load_head()
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        find_model(tmp_path).load_head()


def test_a_model_without_head_says_so():
    assert find_model("imagenet-lite0").load_head() is None


@pytest.mark.parametrize("form", ["wrapped", "no counters", "bare", "before torch 1.6"])
def test_every_form_of_checkpoint_is_read(tensors, tmp_path, form):
    state = dict(tensors)
    if form == "wrapped":
        state = {f"module.{key}": value for key, value in state.items()}
    if form == "no counters":
        state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    data = state if form == "bare" else {"model_state": state}
    is_zip = form != "before torch 1.6"
    torch.save(data, tmp_path / "a.pyth", _use_new_zipfile_serialization=is_zip)
    assert zipfile.is_zipfile(tmp_path / "a.pyth") == is_zip
    random = torch.random.get_rng_state()
    made = official_model(tmp_path / "a.pyth", depth=50)
    assert torch.equal(random, torch.random.get_rng_state())
    assert_same(made.net, tensors)
    assert made.head is None
    assert not made.net.training
    assert "left_out" not in made.training


def test_the_head_is_left_out_unless_asked_for(tensors, tmp_path):
    head = torch.randn(5, 512).half()
    file = write(tmp_path, {**tensors, "desc_cls.weight": head})
    made = official_model(file, depth=50, scales=(1.0,))
    assert made.head is None
    assert made.training["left_out"] == ["desc_cls.weight"]
    assert made.preprocessing.scales == (1.0,)
    assert preset_of(made.preprocessing) == "official"
    kept = official_model(file, depth=50, keep_head=True)
    assert kept.head.dtype == torch.float32
    assert torch.equal(kept.head, head.float())


def without(tensors, *keys):
    return {key: value for key, value in tensors.items() if key not in keys}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: without(t, "fc.bias", "bn.weight"), "misses fc.bias, bn.weight"),
        (lambda t: {**t, "gem.p": torch.ones(1)}, "has unexpected gem.p"),
        (lambda t: {**t, "fc.bias": torch.zeros(8)}, "fc.bias (8,) instead of (512,)"),
        (
            lambda t: {**t, "fc.bias": torch.full((512,), torch.nan)},
            "fc.bias holds values that are not finite",
        ),
        (lambda t: {**t, "fc.bias": torch.zeros(512, dtype=torch.int32)}, "fc.bias is torch.int32"),
        (lambda t: {**t, "fc.bias": torch.zeros(512).to_sparse()}, "fc.bias is torch.float32, torch.sparse"),
        (lambda t: {**t, "fc.bias": "text"}, "holds 'fc.bias', which is no tensor"),
        (lambda t: {**t, "desc_cls.weight": torch.zeros(9, 100)}, "(9, 100) instead of (classes, 512)"),
        (
            lambda t: {**t, "desc_cls.weight": torch.zeros(1).expand(10**9, 512)},
            "desc_cls.weight claims 2048000000000 bytes",
        ),
        (lambda t: {**t, COUNTER: torch.zeros((), dtype=torch.complex64)}, f"{COUNTER} is torch.complex64"),
        (lambda t: {**t, COUNTER: torch.zeros(()).to_sparse()}, f"{COUNTER} is torch.float32, torch.sparse"),
        (lambda t: t, "has no class head (desc_cls.weight)"),
        (lambda t: {THIRD_CONVOLUTION.format(n + 1): torch.ones(1) for n in range(23)}, "holds a ResNet-101"),
        (lambda t: {THIRD_CONVOLUTION.format(n + 1): torch.ones(1) for n in range(36)}, "holds a ResNet-152"),
        (lambda t: {}, "holds no tensors by name"),
    ],
)
def test_what_does_not_fit_is_named(tensors, tmp_path, spoil, words):
    # One stored number per tensor keeps the files small.
    state = spoil({key: value.new_ones(()).expand(value.shape) for key, value in tensors.items()})
    keep = not state or "class" in words or "desc_cls" in words
    with pytest.raises(ModelError) as caught:
        official_model(write(tmp_path, state), depth=50, keep_head=keep)
    assert words in caught.value.what
    assert_two_sentences(caught.value)


def test_the_depth_is_one_of_theirs(tmp_path):
    with pytest.raises(UsageError, match="no network of depth 34"):
        official_model(tmp_path / "a.pyth", depth=34)


def assert_two_sentences(error: CfcdError):
    for sentence in (error.what, error.mend):
        assert "\n" not in sentence
        assert sentence.endswith(".")
        assert len(sentence) < 400


class Foreign:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


def test_a_foreign_pickle_is_refused_in_one_sentence(tensors, tmp_path):
    for number, data in enumerate(({"model_state": {}, "extra": Foreign()}, Foreign())):
        file = tmp_path / f"{number}.pyth"
        torch.save(data, file)
        with pytest.raises(ModelError, match=r"wants to run \S*exec when it is loaded") as caught:
            official_model(file, depth=50)
        assert_two_sentences(caught.value)
    (tmp_path / "plain.pyth").write_bytes(pickle.dumps(Foreign(), protocol=2))
    with pytest.raises(ModelError, match=r"was not loaded|no file of weights"):
        official_model(tmp_path / "plain.pyth", depth=50)


def packed(folder):
    with zipfile.ZipFile(folder / "a.pyth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "No such file"),
        (lambda folder: (folder / "a.pyth").mkdir(), "is no file"),
        (lambda folder: (folder / "a.pyth").write_bytes(b""), "no file of weights"),
        (lambda folder: (folder / "a.pyth").write_bytes(b"\x89PNG" + bytes(999)), "no file of weights"),
        (lambda folder: (folder / "a.pyth").write_bytes(b"PK\x03\x04" + bytes(99)), "no file of weights"),
        (lambda folder: (folder / "a.pyth").write_text("<html>moved</html>"), "no file of weights"),
        (lambda folder: torch.save([torch.ones(1)], folder / "a.pyth"), "holds no tensors by name"),
        (lambda folder: torch.save(torch.ones(1), folder / "a.pyth"), "holds no tensors by name"),
        (packed, "packed in a way that torch does not write"),
    ],
)
def test_what_is_no_checkpoint_is_explained(tmp_path, make, words):
    make(tmp_path)
    with pytest.raises(ModelError) as caught:
        official_model(tmp_path / "a.pyth", depth=50)
    assert words in caught.value.what
    assert_two_sentences(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_nobody_is_told_to_load_code(tmp_path):
    (tmp_path / "a.pyth").write_bytes(pickle.dumps(print, protocol=4))
    with pytest.raises(ModelError, match="no file of weights, or is damaged, and was not loaded") as caught:
        official_model(tmp_path / "a.pyth", depth=50)
    assert "weights_only" not in str(caught.value)


def test_a_torn_download_is_explained(tensors, tmp_path):
    file = write(tmp_path, {"fc.weight": tensors["fc.weight"]})
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="is no file of weights, or is damaged"):
        official_model(file, depth=50)


def test_a_file_over_the_limit_is_not_read(tmp_path, monkeypatch):
    from cfcd.model import weights_file

    monkeypatch.setattr(weights_file, "MAX_BYTES", 100)
    (tmp_path / "a.pyth").write_bytes(bytes(101))
    with pytest.raises(ModelError, match="has 101 bytes, over the limit of 100"):
        official_model(tmp_path / "a.pyth", depth=50)


def test_a_model_with_a_head_is_replaced_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "to_onnx", lambda _model: b"graph")
    monkeypatch.setattr(export, "parity", lambda _model, _data: 1.0)
    net = DescriptorNet(Network("efficientnet_lite0", 1280))
    out, head = tmp_path / "out", torch.randn(2, 1280)
    kept = NewModel(net, PRESETS["official"], {}, head).save(out, name="mine")
    assert torch.equal(kept.load_head(), head)
    again = NewModel(net, PRESETS["official"], {}).save(out)
    assert (kept.name, again.name) == ("mine", "out")
    assert kept.identity == again.identity, "the head plays no part"
    assert again.load_head() is None
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "config.json",
        "model.onnx",
        "model.safetensors",
    }
