from __future__ import annotations

import json
import shutil

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from cfcd.cli.explain import explain
from cfcd.encoding import load_model
from cfcd.errors import GalleryError, IdentityMismatch, PictureError, UsageError
from cfcd.gallery import open_or_create
from tests.support import make_photo

app = typer.Typer()
app.command()(explain)


def run(*arguments):
    """Call the command as the command line does, errors of ours included."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A gallery of four photos, in the folder that holds them."""
    root = tmp_path_factory.mktemp("explain")
    for number in range(4):
        (root / "photos").mkdir(exist_ok=True)
        make_photo(number, (160, 120)).save(root / "photos" / f"{number}.png")
    from cfcd.catalog import read_catalog

    with open_or_create(root / "gallery", long_side=160, precision="fp32") as gallery:
        gallery.update(read_catalog(root / "photos"))
    return root


def test_a_hit_of_a_gallery_is_explained_by_its_id(collection, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    query = collection / "photos" / "1.png"
    result = run(collection / "gallery", query, "2.png")
    assert result.stdout.startswith("score  0.")
    assert "wrote explain.png" in result.stdout
    assert not result.stderr
    with Image.open("explain.png") as drawn:
        assert drawn.format == "PNG"

    plain = json.loads(run(collection / "gallery", query, "2.png", "--json").stdout)
    rows = load_model(long_side=160, precision="fp32").encode([query, collection / "photos" / "2.png"])
    assert plain["score"] == pytest.approx(float(rows[0] @ rows[1]), abs=1e-5)
    for role in ("query", "hit"):
        assert sum(map(sum, plain[role]["shares"])) == pytest.approx(plain["score"], abs=1e-5)
    assert plain["query"]["path"] == str(query)
    assert plain["hit"]["name"] == "2.png"


def test_items_pictures_and_boxes_mix(collection, tmp_path):
    photos = collection / "photos"
    out = tmp_path / "why.png"
    found = json.loads(
        run(
            collection / "gallery", "1.png", photos / "1.png", "--box", "20,20,120,100",
            "--hit-box", "20,20,120,100", "--out", out, "--json",
        ).stdout
    )  # fmt: skip
    assert found["score"] == pytest.approx(1, abs=1e-6)
    assert found["query"]["area"] == found["hit"]["area"] == [20, 20, 120, 100]
    assert out.is_file()


def test_two_pictures_need_no_gallery(collection, tmp_path):
    photos = collection / "photos"
    found = json.loads(
        run(photos / "0.png", photos / "0.png", "--size", 96, "--scales", "1,1.4142", "--json").stdout
    )
    assert found["score"] == pytest.approx(1, abs=1e-6)
    assert found["query"]["grid"] == [3, 4]
    assert found["model"].startswith("imagenet-lite0@")


def test_a_changed_picture_is_warned_of(collection, tmp_path):
    root = tmp_path / "moved"
    shutil.copytree(collection, root)
    from cfcd.catalog import read_catalog

    with open_or_create(root / "own", long_side=160, precision="fp32") as gallery:
        gallery.update(read_catalog(root / "photos"))
    make_photo(77, (160, 120)).save(root / "photos" / "2.png")
    result = run(root / "own", root / "photos" / "1.png", "2.png", "--json")
    assert "warning: 2.png has changed since it was indexed" in result.stderr


def test_mistakes_are_named(collection):
    gallery, query = collection / "gallery", collection / "photos" / "1.png"
    for arguments, kind, said in (
        ((gallery, query), UsageError, "needs a hit"),
        ((gallery, query, "nothing.png"), GalleryError, "no item 'nothing.png'"),
        ((gallery, "nothing.png", "1.png"), GalleryError, "no item 'nothing.png'"),
        ((query, collection / "nothing.png"), PictureError, "no such file"),
        ((query, query, "--out", "why.jpg"), UsageError, r"no \.png"),
        ((query, query, "--box", "1,2,3"), UsageError, "not four numbers"),
        ((gallery, query, "1.png", "--size", 96), IdentityMismatch, "96 px"),
    ):
        with pytest.raises(kind, match=said):
            run(*arguments)
