"""`cfcd search` and `cfcd calibrate` through the real command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer

from cfcd.catalog import read_catalog
from cfcd.cli.calibrate import calibrate as calibrate_command
from cfcd.cli.output import guarded
from cfcd.cli.search import search
from cfcd.gallery import Gallery, open_or_create
from cfcd.gallery.calibration.measuring import calibrate
from tests.gallery.search_support import DIM, make_gallery, objects

Cli = Callable[..., subprocess.CompletedProcess[str]]
ROWS, LABELS = objects(70, 4, 0.45, seed=5)
YEARS = [str(1900 + at % 100) for at in range(len(ROWS))]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """280 made-up items of 70 objects; no model, so queries are items and descriptors."""
    folder = tmp_path_factory.mktemp("search") / "g"
    make_gallery(folder, ROWS, LABELS, year=YEARS).close()
    return folder


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated") / "g"
    with make_gallery(folder, ROWS, LABELS, year=YEARS) as opened:
        calibrate(opened, precision=0.9)
    return folder


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `cfcd ARGUMENTS` in this process, which is quick."""
    app = typer.Typer()
    app.command()(search)
    app.command(name="calibrate")(calibrate_command)

    def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        result = guarded(lambda: app(args=[*map(str, arguments)], standalone_mode=False), debug=False)
        captured = capsys.readouterr()
        assert result == code, captured.err
        return subprocess.CompletedProcess([], result, captured.out, captured.err)

    return run


def found(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [hit["id"] for hit in json.loads(result.stdout)["hits"]]


def test_filters(cli: Cli, gallery: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("item40\r\nitem41\n\nnowhere\nitem200\n")
    listed = cli("search", gallery, "--id", "item41", "--ids", tmp_path / "ids.txt", "--json")
    assert found(listed)[0] == "item40"
    assert set(found(listed)) == {"item40", "item200"}
    assert listed.stderr == "not in the gallery: nowhere\nsearching 3 of 280 items\n"
    options = ("--where", "year >= 1940 and year < 1942", "--label", "object 10", "--label", "object 35")
    both = cli("search", gallery, "--id", "item0", *options, "--json")
    assert set(found(both)) == {"item40", "item41", "item140", "item141"}
    hit = json.loads(both.stdout)["hits"][0]
    assert (hit["extra"]["year"][:3], hit["uri"][:8], hit["verdict"]) == ("194", "file:///", None)
    none = cli("search", gallery, "--id", "item0", "--where", "year = 'none'")
    assert none.stdout == "no hits\n"


def test_mistakes_are_said_in_two_lines(here: Cli, gallery: Path, tmp_path: Path) -> None:
    for options, what in (
        (("--where", "yaer > 1"), "no column 'yaer'; the nearest is 'year'"),
        (("--where", "year >"), "ends where a value is expected"),
        (("--ids", tmp_path / "absent.txt"), "absent.txt cannot be read"),
        (("--descriptors",), "--descriptors needs --json"),
        (("--together",), "--together needs several"),
        (("--box", "1,1,50,50"), "--box needs exactly one PICTURE"),
        (("--vector", "x.npy"), "--vector alone"),
    ):
        result = here("search", gallery, "--id", "item0", *options, code=2)
        assert what in result.stderr
        assert result.stderr.count("\n") == 2
    assert "needs pictures" in here("search", gallery, code=2).stderr


def test_descriptors_and_several_queries(here: Cli, gallery: Path) -> None:
    result = here("search", gallery, "--id", "item0", "--id", "item8", "--k", "3", "--descriptors", "--json")
    queries = json.loads(result.stdout)["queries"]
    assert [query["query"] for query in queries] == ["item0", "item8"]
    for query, own in zip(queries, (0, 8), strict=True):
        assert {hit["id"] for hit in query["hits"]} == {f"item{own + n}" for n in (1, 2, 3)}
        assert len(query["hits"][0]["descriptor"]) == DIM
    text = here("search", gallery, "--id", "item0", "--id", "item8", "--k", "1").stdout.splitlines()
    assert (text[0], text[2], len(text)) == ("item0:", "item8:", 4)


def test_combined_and_expanded(here: Cli, gallery: Path, tmp_path: Path) -> None:
    together = here("search", gallery, "--id", "item0", "--id", "item1", "--together", "--k", "2", "--json")
    assert set(found(together)) == {"item2", "item3"}
    assert json.loads(together.stdout)["query"] == "item0 + item1"
    np.save(tmp_path / "v.npy", ROWS[4])
    expanded = here("search", gallery, "--vector", tmp_path / "v.npy", "--expand", "3", "--k", "4", "--json")
    with Gallery(gallery) as opened:
        assert found(expanded) == [hit.id for hit in opened.search_vector(ROWS[4], 4, expand=3)]


def test_verdicts(here: Cli, calibrated: Path, tmp_path: Path) -> None:
    document = json.loads(here("search", calibrated, "--id", "item0", "--json").stdout)
    assert document["verdict"] == document["hits"][0]["verdict"] == "match"
    assert document["hits"][-1]["verdict"] == "none"
    lines = here("search", calibrated, "--id", "item0").stdout.splitlines()
    assert lines[0].split()[2] == "match"
    np.save(tmp_path / "nothing.npy", -ROWS.mean(axis=0))
    lost = here("search", calibrated, "--vector", tmp_path / "nothing.npy")
    assert lost.stdout.startswith("no match\n  1")
    lost = here("search", calibrated, "--vector", tmp_path / "nothing.npy", "--json")
    assert json.loads(lost.stdout)["verdict"] == "none"
    empty = here("search", calibrated, "--id", "item0", "--where", "year = 'none'")
    assert empty.stdout == "no match\n"
    mixed = here("search", calibrated, "--id", "item0", "--id", "item1", "--together", "--json")
    assert "no verdicts" in mixed.stderr
    assert json.loads(mixed.stdout)["verdict"] is None


def test_pictures_minus_and_grid(cli: Cli, photos: Path, tmp_path: Path) -> None:
    cli("index", photos, "--out", tmp_path / "g")
    arch, bridge = photos / "arch" / "0.jpg", photos / "bridge" / "0.jpg"
    both = cli("search", tmp_path / "g", arch, bridge, "--together", "--json")
    assert {hit["label"] for hit in json.loads(both.stdout)["hits"][:8]} == {"arch", "bridge"}
    less = cli("search", tmp_path / "g", arch, bridge, "--together", "--minus", bridge, "--k", "4", "--json")
    assert {hit["label"] for hit in json.loads(less.stdout)["hits"]} == {"arch"}
    grid = cli("search", tmp_path / "g", arch, bridge, "--k", "2", "--grid", tmp_path / "grid.html")
    assert grid.stdout.count("arch/") + grid.stdout.count("bridge/") == 6
    assert (tmp_path / "grid.html").is_file()


def test_calibrate(here: Cli, gallery: Path, tmp_path: Path) -> None:

    result = here("calibrate", gallery, "--leave-one-out", "--precision", "0.9", "--out", tmp_path / "report")
    assert "280 queries of 70 objects" in result.stdout
    assert "match from 0." in result.stdout
    assert "on objects left out of that choice" in result.stdout
    page = (tmp_path / "report" / "calibration.html").read_text()
    assert page.count('<svg class="plot"') == 2
    assert here("search", gallery, "--id", "item0").stdout.splitlines()[0].split()[2] == "match"
    document = json.loads(here("calibrate", gallery, gallery, "--precision", "0.9", "--json").stdout)
    assert document["made"]["protocol"] == "leave-one-out"
    assert document["match"]["score"] > document["maybe"]["score"]
    (gallery / "calibration.json").unlink()


def test_calibrate_refuses(here: Cli, gallery: Path, photos: Path) -> None:

    for options, what, code in (
        ((), "either LABELLED", 2),
        ((photos, "--leave-one-out"), "either LABELLED", 2),
        (("--leave-one-out", "--precision", "1.5"), "out of range", 2),
        (("--leave-one-out", "--precision", "0.999"), "takes 2703", 1),
    ):
        result = here("calibrate", gallery, *options, code=code)
        assert what in result.stderr
        assert result.stderr.count("\n") == 2
    assert not (gallery / "calibration.json").exists()


def test_calibrate_with_pictures(here: Cli, photos: Path, tmp_path: Path) -> None:
    with open_or_create(tmp_path / "g") as opened:
        opened.update(read_catalog(photos))
    (photos / "arch" / "broken.jpg").write_bytes(b"no picture")
    result = here("calibrate", tmp_path / "g", photos, "--precision", "0.7", "--maybe", "0.2")
    assert "broken.jpg" in result.stderr
    assert "12 queries of 3 objects" in result.stdout
