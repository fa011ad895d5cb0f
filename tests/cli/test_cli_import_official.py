from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.cli.import_official import import_official
from cfcd.errors import ModelError
from cfcd.model import find_model, official
from cfcd.model.config import FIVE_SCALES

app = typer.Typer()
app.command()(import_official)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the command asks the library for; the built-in model is what it gets."""
    calls = []

    def make(checkpoint: Path, out: Path, **options: Any) -> Any:
        calls.append({"checkpoint": checkpoint, "out": out, **options})
        built_in = find_model("imagenet-lite0")
        training = {"weights": "theirs", "class_head": "3 classes", "licence": "ask them", "sha256": "0"}
        config = SimpleNamespace(
            training=training, network=built_in.config.network, preprocessing=built_in.config.preprocessing
        )
        return SimpleNamespace(
            name="r50", label="r50@0123", identity=built_in.identity, dim=512, config=config
        )

    monkeypatch.setattr(official, "import_official", make)
    return calls


def test_options_reach_the_library_and_the_origin_is_printed(calls: list[dict[str, Any]]) -> None:
    result = CliRunner().invoke(app, ["a.pyth", "--depth", "50", "--out", "r50", "--keep-head"])
    assert result.exit_code == 0, result.output
    assert calls == [
        {
            "checkpoint": Path("a.pyth"),
            "out": Path("r50"),
            "depth": 50,
            "keep_head": True,
            "scales": FIVE_SCALES,
        }
    ]
    assert result.stdout.splitlines() == [
        "r50: r50@0123, 512 numbers per picture",
        "  weights: theirs",
        "  class head: 3 classes",
        "  licence: ask them",
    ]


def test_json_is_one_document(calls: list[dict[str, Any]]) -> None:
    options = ["a.pyth", "--depth", "101", "--out", "r101", "--scales", "1", "--json"]
    value = json.loads(CliRunner().invoke(app, options).stdout)
    assert (calls[0]["depth"], calls[0]["keep_head"], calls[0]["scales"]) == (101, False, (1.0,))
    assert (value["path"], value["name"], value["dim"]) == ("r101", "r50", 512)
    assert value["training"]["licence"] == "ask them"


@pytest.mark.parametrize("missing", ["--depth", "--out"])
def test_depth_and_target_must_be_given(missing: str) -> None:
    options = {"--depth": "50", "--out": "r50"}
    del options[missing]
    result = CliRunner().invoke(app, ["a.pyth", *(part for item in options.items() for part in item)])
    assert result.exit_code == 2
    assert missing in result.output


def test_a_missing_checkpoint_is_an_error_of_ours(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the light install has no transformers")
    with pytest.raises(ModelError, match="No such file"):
        import_official(tmp_path / "a.pyth", tmp_path / "r50", 50, scales="5")
    assert list(tmp_path.iterdir()) == []
