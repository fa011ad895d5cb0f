from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")
pytest.importorskip("accelerate", reason="the light install has no accelerate")

from cfcd.catalog import read_catalog  # noqa: E402
from cfcd.encoding.encoder import Reading  # noqa: E402
from cfcd.encoding.preprocess import to_pixels  # noqa: E402
from cfcd.pictures import load_picture  # noqa: E402
from cfcd.training.data import TrainingSet  # noqa: E402
from cfcd.training.passes import Passes  # noqa: E402
from tests.support import make_photo  # noqa: E402

if TYPE_CHECKING:
    from cfcd.training.build import Built
    from cfcd.training.crew import Crew
    from tests.training.conftest import TinyBuilt, TinyRecipe

Make = Callable[..., Passes]


def silent(_done: int, _total: int) -> None:
    pass


@pytest.fixture
def data(photos: Path) -> TrainingSet:
    """12 pictures of 3 classes: upright, lying, and one of a broken file, row 9."""
    for place, number in (("arch/1.jpg", 40), ("church/2.jpg", 50)):
        make_photo(number, (64, 96)).save(photos / place, quality=95)
    (photos / "church/1.jpg").write_bytes((photos / "church/1.jpg").read_bytes()[:500])
    return TrainingSet.from_catalog(read_catalog(photos))


@pytest.fixture
def network(tiny: TinyRecipe, built: TinyBuilt) -> Built:
    return built(tiny({}))


@pytest.fixture
def passes(network: Built, crew: Crew) -> Passes:
    return Passes(network.net, network.preprocessing, crew, 2, Reading())


@pytest.fixture
def calls(network: Built, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the pictures of every call of the network."""
    counts: list[int] = []
    real = network.net.pooled

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        assert not network.net.training
        counts.append(len(pixels))
        return real(pixels)

    monkeypatch.setattr(network.net, "pooled", counted)
    return counts


def pooled_by_hand(network: Built, data: TrainingSet, row: int) -> np.ndarray:
    """Read one picture and send it through the plain network by itself."""
    pixels = to_pixels(load_picture(data.catalog.file(row)), network.preprocessing, 1.0).copy()
    net = network.net.net.eval()
    with torch.no_grad():
        x = (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() - 127) / 128
        return net.pooling(net.last_map(x))[0].numpy()


def test_features_are_those_of_each_picture_by_itself(
    passes: Passes, network: Built, data: TrainingSet, calls: list[int]
) -> None:
    rows = [11, 3, 9, 0, 10, 1]
    found, unreadable = passes.pooled(data.catalog, rows, silent)
    assert found.shape == (6, 32)
    assert found.dtype == np.float32
    assert list(unreadable) == [9]
    assert str(data.catalog.file(9)) in unreadable[9]
    for place, row in enumerate(rows):
        expected = np.zeros(32) if row == 9 else pooled_by_hand(network, data, row)
        np.testing.assert_allclose(found[place], expected, rtol=1e-4, atol=1e-5)
    assert sorted(calls) == [2, 3]  # upright and lying


def test_training_goes_on_as_it_was(passes: Passes, network: Built, data: TrainingSet) -> None:
    for mode in (True, False):
        network.net.train(mode)
        modes = {name: module.training for name, module in network.net.named_modules()}
        before = {name: value.clone() for name, value in network.net.state_dict().items()}
        passes.pooled(data.catalog, [0, 1], silent)
        assert {name: module.training for name, module in network.net.named_modules()} == modes
        assert all(torch.equal(before[name], value) for name, value in network.net.state_dict().items())


def test_training_goes_on_after_a_failure(
    passes: Passes, network: Built, data: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_pixels: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(network.net, "pooled", broken)
    with pytest.raises(ZeroDivisionError):
        passes.pooled(data.catalog, [0, 1], silent)
    assert network.net.training


def test_progress_counts_pictures(passes: Passes, data: TrainingSet) -> None:
    seen: list[tuple[int, int]] = []
    passes.pooled(data.catalog, [0, 1, 2, 3], lambda done, total: seen.append((done, total)))
    # Shapes of their own, (H, W, 3), in order: three lie, then one stands.
    assert seen == [(3, 4), (4, 4)]


def classes_by_hand(network: Built, data: TrainingSet) -> list[int]:
    """Give each readable picture the class whose weight has the largest cosine."""
    net = network.net.eval()
    weights = net.head.weight.detach().numpy().astype(np.float64)
    found = []
    for row in range(len(data)):
        if row == 9:
            found.append(int(data.labels[9]))  # nothing is known of it
            continue
        with torch.no_grad():
            g = net.net.whitening(torch.from_numpy(pooled_by_hand(network, data, row))[None])[0].numpy()
        cosines = [g @ w / (np.linalg.norm(g) * np.linalg.norm(w)) for w in weights]
        found.append(int(np.argmax(cosines)))
    return found


@pytest.fixture
def spread_out(network: Built, data: TrainingSet) -> None:
    """Give the head weights that predict different classes: descriptors of three pictures, of any length."""
    net = network.net.eval()
    rows = [torch.from_numpy(pooled_by_hand(network, data, row)) for row in (0, 4, 10)]
    with torch.no_grad():
        g = net.net.whitening(torch.stack(rows))
        net.head.weight.copy_(torch.stack([g[1] * 9, g[0] * 2, g[2] * 0.1]))
    net.train()


@pytest.mark.usefixtures("spread_out")
def test_mining_is_plain_cosine(passes: Passes, network: Built, data: TrainingSet, tmp_path: Path) -> None:
    mined, unreadable = passes.mined(data, tmp_path, silent)
    assert list(unreadable) == [9]
    assert mined.predicted.tolist() == classes_by_hand(network, data)
    assert len(set(mined.predicted.tolist())) == 3
    assert mined.labels.tolist() == data.labels.tolist()
    assert mined.predicted[9] == mined.labels[9]
    assert mined.accuracy < 1


@pytest.mark.usefixtures("spread_out")
def test_the_same_weights_are_not_run_again(
    passes: Passes, data: TrainingSet, tmp_path: Path, calls: list[int]
) -> None:
    first, _ = passes.mined(data, tmp_path, silent)
    assert sum(calls) == 11
    calls.clear()
    second, _ = passes.mined(data, tmp_path, silent)
    assert calls == []
    assert second.predicted.tolist() == first.predicted.tolist()
    assert second.identity == first.identity
    assert [path.suffix for path in tmp_path.glob("mined-*")] == [".npz"]


@pytest.mark.parametrize(
    "change", ["stem", "norm", "whitening", "head", "preprocessing", "labels", "pictures", "names", "damage"]
)
def test_anything_else_is_mined_anew(
    passes: Passes,
    network: Built,
    data: TrainingSet,
    photos: Path,
    tmp_path: Path,
    calls: list[int],
    change: str,
) -> None:
    passes.mined(data, tmp_path, silent)
    calls.clear()
    net = network.net
    tensors = {
        "stem": net.net.backbone.stem.conv.weight,
        "norm": net.net.backbone.blocks[3].depthwise.norm.running_mean,
        "whitening": net.net.whitening.linear.bias,
        "head": net.head.weight,
    }
    if change in tensors:
        with torch.no_grad():
            # One bit of one number.
            view = tensors[change].detach().view(torch.int32)
            view[(0,) * view.dim()] ^= 1
    elif change == "preprocessing":
        passes.preprocessing = replace(passes.preprocessing, long_side=128)
    elif change == "labels":
        (photos / "arch/0.jpg").rename(photos / "bridge/9.jpg")
        data = TrainingSet.from_catalog(read_catalog(photos))
    elif change == "names":
        (photos / "arch/0.jpg").rename(photos / "arch/00.jpg")
        data = TrainingSet.from_catalog(read_catalog(photos))
    elif change == "pictures":
        data = data.without([0])
    else:
        next(tmp_path.glob("mined-*")).write_bytes(b"PK")
    mined, _ = passes.mined(data, tmp_path, silent)
    assert sum(calls) == len(data) - 1
    assert mined.labels.tolist() == data.labels.tolist()


def test_processes_share_the_work(
    network: Built, data: TrainingSet, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two crews of two that each see their windows; sums over both give the pass of one."""
    from cfcd.training import passes as module

    clean = module.clean_batches
    monkeypatch.setattr(module, "clean_batches", lambda *args, **options: clean(*args, window=3, **options))

    class One:
        processes, device, leads = 2, torch.device("cpu"), True

        def __init__(self, process: int) -> None:
            self.process = process

        def add_up(self, value: torch.Tensor) -> torch.Tensor:
            return value

        def collect(self, value: object) -> list[object]:
            return [value]

        def merge(self, values: dict[int, str]) -> dict[int, str]:
            return values

    rows = range(len(data))
    whole, lost = Passes(network.net, network.preprocessing, crew, 1, None).pooled(data.catalog, rows, silent)
    halves = [
        Passes(network.net, network.preprocessing, One(process), 1, None).pooled(data.catalog, rows, silent)
        for process in range(2)
    ]
    assert halves[0][1] | halves[1][1] == lost
    done = [half[0].any(1) for half in halves]
    assert not (done[0] & done[1]).any()
    assert done[0].any()
    assert done[1].any()
    np.testing.assert_allclose(halves[0][0] + halves[1][0], whole, rtol=1e-4, atol=1e-5)
