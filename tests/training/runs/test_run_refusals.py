"""What a run refuses, and what it copes with: two sentences, and nothing spoilt."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from cfcd.errors import BusyError, CatalogError, CfcdError, TrainingError, UsageError  # noqa: E402
from cfcd.lock import only_writer  # noqa: E402
from cfcd.training.checkpoints import load_checkpoint  # noqa: E402
from cfcd.training.log import read_metrics  # noqa: E402
from cfcd.training.network import Losses, TrainingNet  # noqa: E402
from cfcd.training.run import train  # noqa: E402
from tests.training.runs.run_support import (  # noqa: E402
    CLASSES,
    METRIC,
    SHORT,
    TINY,
    FinishedRun,
    Power,
    cut_at,
    make_collection,
    spoil,
)

pytestmark = pytest.mark.usefixtures("light")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of the test's own, to be spoilt."""
    return make_collection(tmp_path / "photos")


def refusal(kind: type[CfcdError], *words: str, **arguments: Any) -> CfcdError:
    """Train, and give the error: of this kind, in two sentences, with these words."""
    with pytest.raises(kind) as caught:
        train(**arguments)
    error = caught.value
    assert type(error) is kind
    assert error.exit_code == (2 if kind is UsageError else 1)
    for sentence in (error.what, error.mend):
        assert sentence.endswith((".", "?"))
        assert "\n" not in sentence
    for word in words:
        assert word in str(error)
    return error


def test_data_without_labels(photos: Path, tmp_path: Path) -> None:
    refusal(TrainingError, "no labels", data=photos / "arch", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_of_one_class(photos: Path, tmp_path: Path) -> None:
    for label in CLASSES[1:]:
        shutil.rmtree(photos / label)
    refusal(TrainingError, "one class", "'arch'", data=photos, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_that_is_not_there(tmp_path: Path) -> None:
    refusal(CatalogError, "absent", data=tmp_path / "absent", out=tmp_path / "run")


@pytest.mark.parametrize("kind", ["metric", "learned", "none"])
def test_a_class_without_a_readable_picture_is_named(photos: Path, tmp_path: Path, kind: str) -> None:
    for picture in (photos / "church").iterdir():
        spoil(picture)
    options = SHORT | {"whitening.kind": kind} | ({"whitening.dim": 8} if kind == "metric" else {})
    refusal(TrainingError, "'church'", "cfcd check", data=photos, out=tmp_path / "run", options=options)
    assert load_checkpoint(tmp_path / "run") is None


def test_a_folder_that_holds_something_else(collection: Path, tmp_path: Path) -> None:
    for place, name in (("file", None), ("folder", "letter.txt"), ("model", "config.json")):
        out = tmp_path / place
        if name:
            out.mkdir()
            (out / name).write_text("keep me")
        else:
            out.write_text("keep me")
        error = refusal(TrainingError, "something else", "--out", data=collection, out=out, options=SHORT)
        assert str(out) in error.what
        assert refusal(
            TrainingError, "something else", data=collection, out=out, options=SHORT, resume=True
        ).what
        assert ([*out.iterdir()] if name else [out])[0].read_text() == "keep me"


def test_a_run_is_gone_on_with_only_if_asked(finished: FinishedRun, tmp_path: Path) -> None:
    words = ("a finished run", "--resume")
    refusal(TrainingError, *words, data=finished.photos, out=finished.folder, options=METRIC)
    with pytest.raises(Power):
        train(finished.photos, tmp_path / "run", options=TINY, progress=cut_at("coarse", 2))
    words = ("an unfinished run", "--resume")
    refusal(TrainingError, *words, data=finished.photos, out=tmp_path / "run", options=TINY)


@pytest.fixture
def begun(photos: Path, tmp_path: Path) -> Path:
    """A run with a checkpoint after its first step."""
    with pytest.raises(Power):
        train(photos, tmp_path / "begun", options=TINY, progress=cut_at("coarse", 2))
    return tmp_path / "begun"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coarse.lr": 0.0125}, ("coarse.lr", "0.0125", "0.002")),
        ({"seed": 7}, ("seed", "7")),
        ({"head.kind": "arcface"}, ("head.kind", "arcface", "madacos")),
        ({"coarse.lr": 0.0125, "optimizer.ema": 0.5}, ("coarse.lr", "optimizer.ema")),
    ],
)
def test_resuming_by_another_recipe_names_the_keys(
    photos: Path, begun: Path, change: dict[str, object], words: tuple[str, ...]
) -> None:
    before = (begun / "checkpoint.pt").read_bytes(), (begun / "recipe.yaml").read_bytes()
    refusal(TrainingError, *words, data=photos, out=begun, options=TINY | change, resume=True)
    assert ((begun / "checkpoint.pt").read_bytes(), (begun / "recipe.yaml").read_bytes()) == before


def test_resuming_on_other_data(photos: Path, begun: Path) -> None:
    (photos / "arch" / "0.jpg").rename(photos / "arch" / "9.jpg")
    for options in (TINY, {}):
        refusal(TrainingError, "other pictures", data=photos, out=begun, options=options, resume=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:1000],
        lambda content: content[:-1000],
        lambda content: b"",
        lambda content: b"no checkpoint" * 100,
    ],
)
def test_a_damaged_checkpoint_is_named(photos: Path, begun: Path, damage: Callable[[bytes], bytes]) -> None:
    path = begun / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    refusal(TrainingError, str(path), data=photos, out=begun, resume=True)


def test_a_checkpoint_that_runs_code_is_refused(photos: Path, begun: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "boom",)

    torch.save({"format": 1, "recipe": Bomb()}, begun / "checkpoint.pt")
    refusal(TrainingError, "checkpoint.pt", data=photos, out=begun, resume=True)
    assert not (tmp_path / "boom").exists()


def test_a_folder_that_another_process_writes_to(photos: Path, begun: Path) -> None:
    with only_writer(begun):
        refusal(BusyError, str(begun), data=photos, out=begun, resume=True)


def test_a_damaged_summary_is_named(finished: FinishedRun, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(finished.folder, run)
    for content in ("{", "[]", "{}", '{"skipped": []}'):
        (run / "summary.json").write_text(content)
        refusal(TrainingError, "summary.json", data=finished.photos, out=run, resume=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coarse.epoch": 3}, ("'coarse.epoch'", "'coarse.epochs'")),
        ({"lr": 0.1}, ("coarse.lr", "fine.lr")),
        ({"coarse.lr": -1}, ("coarse.lr", "-1")),
        ({"fine.batch": 12}, ("fine.batch", "12", "multiple")),
        ({"optimizer.accumulate": 3}, ("optimizer.accumulate", "3")),
        ({"coarse.epochs": 0, "fine.epochs": 0}, ("coarse.epochs", "fine.epochs")),
        ({"augment.size": 100}, ("augment.size", "100", "32")),
        ({"whitening.kind": "metric", "whitening.dim": 4096}, ("whitening.dim", "4096")),
        ({"model.freeze": 40}, ("model.freeze", "40")),
        ({"run.precision": "fp16"}, ("fp16", "GPU")),
    ],
)
def test_options_that_cannot_be(
    collection: Path, tmp_path: Path, options: dict[str, object], words: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    refusal(UsageError, *words, data=collection, out=run, options=TINY | options)
    # Whoever mends the option need not mend the folder as well.
    with pytest.raises(Power):
        train(collection, run, options=SHORT, progress=cut_at("looking at the pictures"))


@pytest.mark.parametrize("phase", ["coarse", "fine"])
def test_weights_that_grow_without_end_stop_the_run(collection: Path, tmp_path: Path, phase: str) -> None:
    # Decay by 100 times the weight: every step makes the weights 99 times larger.
    options = TINY | {"coarse.epochs": 0, "fine.epochs": 0, f"{phase}.epochs": 40, f"{phase}.lr": 100}
    options |= {"optimizer.weight_decay": 1.0, "run.monitor": 0}
    words = (f"{phase} phase", f"{phase}.lr", "optimizer.clip")
    refusal(TrainingError, *words, data=collection, out=tmp_path / "run", options=options)
    rows = read_metrics(tmp_path / "run")
    assert len(rows) > 2
    assert all(row["loss"] is not None and math.isfinite(row["loss"]) for row in rows)
    found = load_checkpoint(tmp_path / "run")
    assert found is not None
    assert 0 < found.steps <= len(rows)
    assert all(torch.isfinite(value).all() for value in found.net.values())
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize(("phase", "step", "rate"), [("coarse", 5, "0.0005"), ("fine", 8, "0.0005")])
def test_a_loss_that_is_no_number_stops_the_run(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, step: int, rate: str
) -> None:
    forward, calls = TrainingNet.forward, 0

    def broken(*arguments: Any) -> Losses:
        nonlocal calls
        calls += 1
        losses = forward(*arguments)
        return losses if calls < step else losses._replace(classification=losses.classification * math.nan)

    monkeypatch.setattr(TrainingNet, "forward", broken)
    words = (f"became nan in step {step}", f"{phase} phase", f"learning rate {rate}", f"{phase}.lr")
    refusal(TrainingError, *words, data=collection, out=tmp_path / "run", options=TINY)
    assert [row["step"] for row in read_metrics(tmp_path / "run") if "loss" in row] == [*range(1, step)]
    found = load_checkpoint(tmp_path / "run")
    assert found is not None
    assert found.steps == step - 1


def test_weights_that_break_in_the_last_step_make_no_model(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The loss is looked at before the step: the last one would go unseen.
    step = torch.optim.SGD.step

    def step_and_break(self: Any, *arguments: Any) -> None:
        step(self, *arguments)
        with torch.no_grad():
            self.param_groups[0]["params"][0].fill_(math.nan)

    monkeypatch.setattr(torch.optim.SGD, "step", step_and_break)
    options = SHORT | {"fine.epochs": 0}
    refusal(TrainingError, data=collection, out=tmp_path / "run", options=options)
    assert not (tmp_path / "run" / "summary.json").exists()
    assert load_checkpoint(tmp_path / "run") is None


def test_too_little_memory_says_what_to_lower(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr("cfcd.training.network.TrainingNet.forward", fail)
    words = ("8 crops of 96 x 96", "optimizer.accumulate", "augment.size")
    refusal(TrainingError, *words, data=collection, out=tmp_path / "run", options=TINY)
