from __future__ import annotations

import copy
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.errors import TrainingError  # noqa: E402
from cfcd.training.checkpoints import (  # noqa: E402
    FILE,
    Checkpoint,
    check_same,
    load_checkpoint,
    save_checkpoint,
)
from cfcd.training.named_recipes import RECIPES, named_recipe  # noqa: E402


def example(**values: Any) -> Checkpoint:
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    checkpoint = Checkpoint(
        recipe=named_recipe("paper").to_dict(),
        catalog="0f" * 32,
        phase="fine",
        epoch=3,
        step=17,
        steps=170,
        seconds=12.25,
        net=net.state_dict(),
        optimizer={"optimizer": optimizer.state_dict(), "scaler": {}},
        average={"0.weight": torch.randn(2, 3)},
        predicted=torch.tensor([2, 0, 1]),
        unreadable={4: "It is empty."},
        random=[torch.get_rng_state(), torch.arange(8, dtype=torch.uint8)],
        measured=[50.5, None, 61.0],
    )
    return replace(checkpoint, **values)


def values_of(checkpoint: Checkpoint) -> dict[str, Any]:
    return {item.name: getattr(checkpoint, item.name) for item in fields(Checkpoint)}


def same(left: Any, right: Any) -> bool:
    """Compare nested plain values and tensors, types included: resuming must be exact."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and list(left) == list(right)
            and all(same(left[k], right[k]) for k in left)
        )
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("values", [{}, {"predicted": None, "average": {}, "unreadable": {}, "measured": []}])
def test_everything_comes_back(tmp_path: Path, values: dict[str, Any]) -> None:
    checkpoint = example(**values)
    save_checkpoint(tmp_path, checkpoint)
    found = load_checkpoint(tmp_path)
    for item in fields(Checkpoint):
        assert same(getattr(checkpoint, item.name), getattr(found, item.name)), item.name
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE]


def test_the_comparison_sees_differences() -> None:
    assert not same([1], [1.0])
    assert not same({"a": torch.zeros(2)}, {"a": torch.zeros(2, dtype=torch.float64)})
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})


def test_the_last_one_is_kept(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, example(steps=1))
    save_checkpoint(tmp_path, example(steps=2))
    assert load_checkpoint(tmp_path).steps == 2


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_the_one_before_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    save_checkpoint(tmp_path, example(steps=1))

    def half(_values: object, file: Any) -> None:
        file.write(b"PK half of it")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(error):
        save_checkpoint(tmp_path, example(steps=2))
    assert load_checkpoint(tmp_path).steps == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "flipped", "folder"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, example())
    path = tmp_path / FILE
    content = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        middle = len(content) // 2
        path.write_bytes(
            {
                "empty": b"",
                "cut": content[:middle],
                "text": b"This is no checkpoint.\n",
                # the archive's directory is gone
                "flipped": content[:-200] + bytes(byte ^ 255 for byte in content[-200:]),
            }[damage]
        )
    with pytest.raises(TrainingError) as caught:
        load_checkpoint(tmp_path)
    reason = "Is a directory" if damage == "folder" else "damaged, or more than tensors and plain values"
    assert caught.value.what == f"{path} is not a checkpoint that can be read: {reason}."
    assert "Train into another folder" in caught.value.mend


class Trap:
    """What an attacker would put into a pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_file_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    torch.save({"format": 1, **values_of(example()), "recipe": {"name": Trap(trap)}}, tmp_path / FILE)
    with pytest.raises(TrainingError) as caught:
        load_checkpoint(tmp_path)
    assert not trap.exists()
    # torch's own words go on to tell how to run it after all.
    assert caught.value.what.endswith("read: damaged, or more than tensors and plain values.")


def test_the_trap_works(tmp_path: Path) -> None:
    torch.save(Trap(tmp_path / "sprung"), tmp_path / FILE)
    torch.load(tmp_path / FILE, weights_only=False)
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("change", ["format", "missing", "more", "list"])
def test_another_version_is_named(tmp_path: Path, change: str) -> None:
    values: Any = {"format": 1} | values_of(example())
    if change == "format":
        values["format"] = 2
    elif change == "missing":
        del values["measured"]
    elif change == "more":
        values["momentum"] = 0.9
    else:
        values = list(values)
    torch.save(values, tmp_path / FILE)
    with pytest.raises(TrainingError) as caught:
        load_checkpoint(tmp_path)
    assert f"{tmp_path / FILE} was written by another version of cfcd." in str(caught.value)


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_recipe_and_pictures_may_go_on(tmp_path: Path, name: str) -> None:
    recipe = named_recipe(name).to_dict()
    save_checkpoint(tmp_path, example(recipe=recipe))
    check_same(load_checkpoint(tmp_path), copy.deepcopy(recipe), "0f" * 32, tmp_path)


def test_other_pictures_are_named() -> None:
    checkpoint = example()
    with pytest.raises(TrainingError, match="run in runs/a was started on other pictures, labels or splits"):
        check_same(checkpoint, checkpoint.recipe, "1f" * 32, Path("runs/a"))


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        ("coarse", {"lr": 0.5}, "coarse.lr was 0.005, not 0.5"),
        (
            "head",
            {"options": {"rho": 0.5, "floor": 32.0, "ceiling": ".inf"}},
            "head.options.rho was 0.02, not 0.5",
        ),
        ("head", {"options": {}}, "head.options.rho was 0.02, not None"),
        ("augment", {"area": [0.08, 0.9]}, "augment.area was [0.08, 1.0], not [0.08, 0.9]"),
        (None, {"seed": 1, "name": "mine"}, "name was 'paper', not 'mine'; seed was 0, not 1"),
    ],
)
def test_another_recipe_is_named_by_what_differs(
    section: str | None, change: dict[str, Any], words: str
) -> None:
    checkpoint = example()
    recipe = copy.deepcopy(checkpoint.recipe)
    (recipe if section is None else recipe[section]).update(change)
    with pytest.raises(TrainingError) as caught:
        check_same(checkpoint, recipe, checkpoint.catalog, Path("runs/a"))
    assert f"The run in runs/a was started with another recipe: {words}" in str(caught.value)


def test_tuples_of_a_recipe_in_memory_equal_the_lists_of_a_file() -> None:
    checkpoint = example()
    recipe = copy.deepcopy(checkpoint.recipe)
    recipe["augment"]["area"] = tuple(recipe["augment"]["area"])
    check_same(checkpoint, recipe, checkpoint.catalog, Path("runs/a"))


def test_of_many_differences_the_first_are_named() -> None:
    checkpoint = example()
    with pytest.raises(TrainingError) as caught:
        check_same(checkpoint, named_recipe("small").to_dict(), checkpoint.catalog, Path("runs/a"))
    assert str(caught.value).count(" was ") == 5 + 1  # "was started with"
