from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfcd.errors import MissingExtra, UsageError
from cfcd.training.named_recipes import named_recipe
from cfcd.training.recipe import Recipe, WhiteningRecipe
from cfcd.training.recipe_file import MAX_BYTES, flatten, load_recipe
from cfcd.training.recipe_head import HeadRecipe
from cfcd.training.recipe_yaml import parse

SMALL = named_recipe("small")


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_names_files_and_recipes_are_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_recipe("small") is load_recipe(SMALL) is SMALL
    path = written(tmp_path, "base: paper\nname: other")
    assert load_recipe(path) == load_recipe(str(path)) == replace(named_recipe("paper"), name="other")
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "base: paper", "small")
    assert load_recipe("small") is SMALL
    assert load_recipe(Path("small")) == replace(named_recipe("paper"), name="small")


def test_a_file_changes_its_base(tmp_path: Path) -> None:
    text = """
base: small
seed: 3
coarse: {epochs: 7, lr: 1e-4}   # a number, whatever YAML 1.1 says
fine.weight: 0
augment:
  area: [.5, 1]
head:
  options:
    ceiling: .inf
"""
    recipe = load_recipe(written(tmp_path, text))
    assert recipe == replace(
        SMALL,
        name="mine",
        seed=3,
        coarse=replace(SMALL.coarse, epochs=7, lr=1e-4),
        fine=replace(SMALL.fine, weight=0),
        augment=replace(SMALL.augment, area=(0.5, 1)),
        head=HeadRecipe("madacos", {**SMALL.head.options, "ceiling": math.inf}),
    )


def test_a_file_without_base_gives_what_has_no_default(tmp_path: Path) -> None:
    text = """
whitening: {kind: none}
head: {kind: adacos}
coarse: {epochs: 1, batch: 8, lr: 1}
fine: {epochs: 0, batch: 8, lr: 1}
"""
    recipe = load_recipe(written(tmp_path, text, "My recipe (2).yaml"))
    assert recipe.name == "My-recipe-2"
    assert (recipe.coarse.lr, recipe.fine.ratio, recipe.run.precision) == (1.0, 0.9, "auto")
    with pytest.raises(
        UsageError, match=r"mine.yaml: The key fine.lr is missing. Give it, or start with `base: small`.$"
    ):
        load_recipe(
            written(tmp_path, text.replace("batch: 8, lr: 1}\n", "batch: 8}\n").replace("8}", "8, lr: 1}", 1))
        )
    with pytest.raises(UsageError, match=r"mine.yaml: The key whitening.kind is missing."):
        load_recipe(written(tmp_path, ""))


def test_a_name_is_found_for_any_file(tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, "base: small", "___.yaml")).name == "recipe"
    assert load_recipe(written(tmp_path, "base: small", "é" * 50 + "x" * 150 + ".yml")).name == "x" * 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "base: small\ncoarse:\n  lr: 1\n  lr: 2\n",
            ", line 4: the key lr is given twice. Mend it, or start from what",
        ),
        ("base: small\nbase: paper", ", line 2: the key base is given twice."),
        (
            "base: small\ncoarse: {lr: 1}\ncoarse.lr: 2",
            ": The key coarse.lr is given twice. Leave one of them out.",
        ),
        (
            "base: small\ncoarse: {lrr: 1}",
            ": There is no key 'coarse.lrr'. Did you mean 'coarse.lr'? `cfcd train",
        ),
        ("base: smal", ": There is no recipe named 'smal'. Did you mean 'small'? Give one of small, paper."),
        ("base: [small]", ": There is no recipe named '[small]'."),
        (
            "base: small\ncoarse:\n",
            ": coarse is null. Give keys and values, such as coarse.epochs, or leave it out.",
        ),
        ("base: small\ncoarse: {lr: -1}", ": coarse.lr is -1. Give a number above 0 and at most 100."),
        ("base: small\nseed: {}", ": seed is {}. Give a whole number"),
        ("base: small\nsead: {a: 1}", ": There is no key 'sead'. Did you mean 'seed'?"),
        (
            "- base: small",
            ": The recipe is [{'base': 'small'}]. Give keys and values, such as name, or leave it out.",
        ),
        ("just text", ": The recipe is 'just text'."),
        ("a: [1\nb: 2", ", line 2: "),
        ("a: 1\n---\nb: 2", ", line 2: "),
        ("base: &b small\nname: *b", ", line 2: a recipe takes no aliases."),
        ("base: small\n? [a, b]\n: 1", ", line 2: a key is no word."),
        ("base: small\n1: 2", ": There is no key '1'."),
        ("base: small\n<<: {seed: 1}", ": There is no key '<<'."),
        (
            "seed: !!python/object/apply:os.getcwd []\n",
            ", line 1: could not determine a constructor for the tag",
        ),
        ("seed: !!int x", ": it cannot be read as YAML (invalid literal for int() with base 10: 'x')."),
        ("seed: " + "9" * 5000, ": it cannot be read as YAML (Exceeds the limit"),
        ("[" * 5000, ": it cannot be read as YAML (maximum recursion depth exceeded"),
        ("seed: \x07", ": it cannot be read as YAML (unacceptable character #x0007"),
    ],
)
def test_errors_of_a_file_name_it_and_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match="^" + re.escape(f"{path}{message}")):
        load_recipe(path)


def test_what_is_no_recipe_file_is_refused(tmp_path: Path) -> None:
    for source, message in (
        (
            "smal",
            "There is no recipe smal: neither a name nor a file. Did you mean 'small'? Give small, "
            "paper, or a YAML file.",
        ),
        (tmp_path / "no.yaml", "neither a name nor a file. Give small, paper, or a YAML file."),
        (tmp_path, f"{tmp_path} is no recipe: Is a directory."),
        ("a\0b", "is no recipe: embedded null byte."),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            load_recipe(source)
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"name: \xff")
    with pytest.raises(UsageError, match="is no recipe: it is not UTF-8 text"):
        load_recipe(path)
    whole = b"base: small #"
    path.write_bytes(whole + b"x" * (MAX_BYTES - len(whole)))
    assert load_recipe(path).name == "bytes"
    path.write_bytes(whole + b"x" * (MAX_BYTES - len(whole) + 1))
    with pytest.raises(UsageError, match="is no recipe: it has over 65536 bytes"):
        load_recipe(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no endless file here")
def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(UsageError, match="/dev/zero is no recipe: it has over"):
        load_recipe(os.devnull.replace("null", "zero"))


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "mark.yaml"
    path.write_bytes(b"\xef\xbb\xbfbase: small\r\nseed: 4\r\n")
    assert load_recipe(path).seed == 4


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("coarse.lr=1e-4", 1e-4),
        ("coarse.lr=1E2", 100.0),
        ("coarse.lr = .5", 0.5),
        ("coarse.lr=5.", 5.0),
        ("coarse.lr=+5", 5.0),
        ("coarse.epochs=010", 10),
        ("optimizer.clip=null", None),
        ("optimizer.clip=~", None),
        ("optimizer.clip=1", 1.0),
        ("optimizer.nesterov=False", False),
        ("augment.area=[5e-1, 1]", (0.5, 1.0)),
        ("model.scales=[0.5, 1]", (0.5, 1.0)),
        ("model.long_side=640", 640),
        ("model.long_side=null", None),
        ("model.weights=my/folder=2", "my/folder=2"),
        ("model.weights='010'", "010"),
        ("model.weights=on", "on"),
        ("model.weights=2020-01-01", "2020-01-01"),
        ("model.weights=08:30", "08:30"),
        ("model.weights=0x10", "0x10"),
        ("model.weights=1_000", "1_000"),
        ("seed=4294967295", 2**32 - 1),
    ],
)
def test_options_are_read_as_modern_yaml(option: str, value: Any) -> None:
    recipe = load_recipe("small", [option])
    found: Any = recipe
    for name in option.partition("=")[0].strip().split("."):
        found = getattr(found, name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["lr=1"],
            "There is no key 'lr'. Did you mean 'coarse.lr' or 'fine.lr'? `cfcd train --show-recipe` prints",
        ),
        (["lrr=1"], "There is no key 'lrr'. Did you mean 'coarse.lr' or 'fine.lr'?"),
        (["coarse.margin=1"], "There is no key 'coarse.margin'. Did you mean 'fine.margin'?"),
        (
            ["head.kind=arcface", "margin=1"],
            "There is no key 'margin'. Did you mean 'fine.margin' or 'head.options.margin'?",
        ),
        (
            {"head.options.": 3},
            "A head of kind madacos has no option head.options.. It takes rho, floor, ceiling.",
        ),
        (["rho=1"], "There is no key 'rho'. Did you mean 'head.options.rho'?"),
        (["head.rho=1"], "There is no key 'head.rho'. Did you mean 'head.options.rho'?"),
        (["distil=1"], "There is no key 'distil'. Did you mean 'distill'?"),
        (["augmnt.size=300"], "There is no key 'augmnt.size'. Did you mean 'augment.size'?"),
        (["zzz=1"], "There is no key 'zzz'. `cfcd train --show-recipe` prints every key."),
        (["base=paper"], "There is no key 'base'."),
        (["coarse.lr.x=1"], "There is no key 'coarse.lr.x'. Did you mean 'coarse.lr'?"),
        (["head.options.rh=1"], "A head of kind madacos has no option head.options.rh. Did you mean 'rho'?"),
        (["coarse.lr=on"], "coarse.lr is 'on'. Give a number above 0 and at most 100."),
        (["coarse.lr=yes"], "coarse.lr is 'yes'."),
        (["coarse.lr=true"], "coarse.lr is true."),
        (["coarse.lr='1e-4'"], "coarse.lr is '1e-4'."),
        (["coarse.lr=1e999"], "coarse.lr is .inf."),
        (["coarse.epochs=5.0"], "coarse.epochs is 5.0."),
        (["coarse.epochs=1_000"], "coarse.epochs is '1_000'."),
        (["coarse.epochs=1:30"], "coarse.epochs is '1:30'."),
        (["optimizer.nesterov=yes"], "optimizer.nesterov is 'yes'. Give true or false."),
        (["coarse=5"], "coarse is 5. Give keys and values, such as coarse.epochs, or leave it out."),
        (
            ["whitening=null"],
            "whitening is null. Give keys and values, such as whitening.kind, or leave it out.",
        ),
        (
            ["head.options=3"],
            "head.options is 3. Give keys and values, such as head.options.rho, or leave it out.",
        ),
        (["coarse.lr={a: 1}"], "coarse.lr is {'a': 1}."),
        (
            ["coarse={lr: 1, lr: 2}"],
            "The value of the option 'coarse={lr: 1, lr: 2}': the key lr is given twice.",
        ),
        (
            ["coarse.lr"],
            "The option 'coarse.lr' is not a key and a value. Write key=value, such as coarse.lr=0.01 (null",
        ),
        (["coarse.lr="], "The option 'coarse.lr=' is not a key and a value."),
        (["=1"], "The option '=1' is not a key and a value."),
        (["coarse.lr=[1"], "The value of the option 'coarse.lr=[1': "),
        (["head.kind=[madacos]"], "head.kind is [madacos]. Give one of madacos, softmax,"),
        (["whitening.kind=3"], "whitening.kind is 3. Give one of metric, learned, none."),
    ],
)
def test_errors_of_options_name_the_key(options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        load_recipe("small", options)


def test_of_equal_keys_the_last_option_counts() -> None:
    options = ["coarse.lr=1", "coarse.epochs=3", "coarse={lr: 2, batch: 64}", "coarse.batch=16"]
    recipe = load_recipe("small", options)
    assert recipe.coarse == replace(SMALL.coarse, lr=2, epochs=3, batch=16)
    # What goes through a state that is not allowed is fine as long as it ends well.
    assert load_recipe("small", ["coarse.epochs=0", "fine.epochs=0", "coarse.epochs=1"]).fine.epochs == 0


def test_options_may_be_one_text_or_a_mapping() -> None:
    expected = replace(SMALL, seed=2, coarse=replace(SMALL.coarse, lr=0.5))
    assert load_recipe("small", {"coarse.lr": 0.5, "seed": 2}) == expected
    assert load_recipe("small", {"coarse": {"lr": 0.5}, "seed": 2}) == expected
    assert load_recipe("small", "seed=2").seed == 2
    assert load_recipe("small", {}) is load_recipe("small", []) is SMALL
    with pytest.raises(UsageError, match=r"^The key coarse.lr is given twice"):
        load_recipe("small", {"coarse": {"lr": 0.5}, "coarse.lr": 1})
    with pytest.raises(UsageError, match=r"^coarse.lr is '0.5'"):
        load_recipe("small", {"coarse.lr": "0.5"})


def test_another_head_drops_the_options_of_the_old_one(tmp_path: Path) -> None:
    assert load_recipe("small", ["head.kind=cosface"]).head == HeadRecipe("cosface")
    cosface = load_recipe("small", ["head.options.margin=0.2", "head.kind=cosface", "head.options.scale=30"])
    assert cosface.head == HeadRecipe("cosface", {"margin": 0.2, "scale": 30})
    # A margin in cosine is none in radians, so the same name says nothing.
    assert load_recipe(cosface, ["head.kind=arcface"]).head == HeadRecipe("arcface")
    assert load_recipe("small", ["head.kind=madacos", "head.options.rho=0.1"]).head.options == {
        **SMALL.head.options,
        "rho": 0.1,
    }
    with pytest.raises(UsageError, match=r"^A head of kind arcface has no option head.options.rho."):
        load_recipe("small", ["head.options.rho=0.1", "head.kind=arcface"])
    path = written(tmp_path, "base: small\nhead: {kind: softmax, options: {scale: 20}}")
    assert load_recipe(path).head == HeadRecipe("softmax", {"scale": 20})
    assert load_recipe(path, ["head.kind=madacos"]).head == HeadRecipe("madacos")


def test_another_whitening_drops_the_values_of_the_old_one(tmp_path: Path) -> None:
    learned = load_recipe("small", ["whitening.kind=learned", "whitening.dim=64"])
    assert learned.whitening == WhiteningRecipe("learned", 64)
    assert load_recipe(learned, ["whitening.kind=metric"]).whitening == WhiteningRecipe("metric", 64)
    assert load_recipe(learned, ["whitening.kind=none"]).whitening == WhiteningRecipe("none")
    tuned = load_recipe("small", ["whitening.gain=0.25"])
    assert load_recipe(tuned, ["whitening.kind=metric"]).whitening.gain == 0.25
    assert load_recipe(tuned, ["whitening.dim=64"]).whitening == replace(tuned.whitening, dim=64)
    path = written(tmp_path, "base: paper\nwhitening: {kind: metric, centre: 0}")
    assert load_recipe(path).whitening == WhiteningRecipe("metric", 512, centre=0)
    with pytest.raises(
        UsageError, match=r"^whitening.within is 1.0, but a whitening of kind learned has no such value"
    ):
        load_recipe("small", ["whitening.within=1", "whitening.kind=learned"])


def test_from_dict_takes_nested_keys_only_where_there_are_sections() -> None:
    data = SMALL.to_dict()
    assert Recipe.from_dict(data | {"coarse": data["coarse"] | {"lr": 1}}).coarse.lr == 1.0
    with pytest.raises(UsageError, match=r"^There is no key 'corse'. Did you mean 'coarse'[?]"):
        Recipe.from_dict(data | {"corse": {}})
    with pytest.raises(UsageError, match=r"^The key name is missing"):
        Recipe.from_dict({key: value for key, value in data.items() if key != "name"})
    with pytest.raises(UsageError, match=r"^The recipe is \[\]. Give keys and values"):
        Recipe.from_dict([])


def test_yaml_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfcd.model.extras.find_spec", lambda name: None)
    assert "name: small" in load_recipe("small").to_yaml()
    assert load_recipe("small", {"seed": 1}).seed == 1
    with pytest.raises(MissingExtra, match=r"Reading a recipe needs the package .*yaml.*cfcd\[train\]"):
        load_recipe("small", ["seed=1"])


KEYS = st.sampled_from(
    [*flatten(SMALL.to_dict()), "base", "coarse", "head", "head.options", "head.options.", "head.", "lr", "x"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["small", ".inf"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_data_makes_a_recipe_or_a_usage_error(data: dict[str, Any]) -> None:
    for attempt in (lambda: load_recipe("small", data), lambda: Recipe.from_dict(SMALL.to_dict() | data)):
        try:
            recipe = attempt()
        except UsageError as error:
            assert len(str(error)) < 600
        else:
            assert Recipe.from_dict(recipe.to_dict()) == recipe


@settings(deadline=None)
@given(text=st.text(max_size=40) | st.text("&*!?|>{}[]:,-# \n'\"a1.~%@", max_size=40))
def test_any_text_is_yaml_or_a_usage_error(text: str) -> None:
    try:
        parse(text, "here")
    except UsageError as error:
        assert str(error).startswith("here")
        assert "\n" not in error.mend


@pytest.mark.parametrize("text", ["[" * 90 + "]" * 90, "{a: " * 90 + "}" * 90])
def test_deep_values_are_refused_shortly(text: str) -> None:
    with pytest.raises(UsageError, match=r"^coarse.lr is .{0,80}\. Give a number above 0"):
        load_recipe("small", {"coarse.lr": parse(text, "here")})
