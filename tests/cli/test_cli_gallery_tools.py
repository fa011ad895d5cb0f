"""`cfcd duplicates`, `export-descriptors` and `import-descriptors`, end to end over real files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from cfcd.catalog import read_catalog
from cfcd.cli.duplicates import duplicates
from cfcd.cli.exchange import export_descriptors, import_descriptors
from cfcd.encoding import load_model
from cfcd.errors import GalleryError, UsageError
from cfcd.gallery import Gallery, open_gallery


@pytest.fixture
def folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a gallery of the photos and a copy of one."""
    shutil.copy(photos / "arch" / "0.jpg", photos / "arch" / "copy.jpg")
    with Gallery.create(tmp_path / "gallery", load_model(precision="fp32")) as gallery:
        gallery.update(read_catalog(photos))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    for command in (duplicates, export_descriptors, import_descriptors):
        app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_duplicates_are_listed_written_and_kept(folder: Path) -> None:
    before = sorted((folder / "photos").rglob("*"))
    result = run("duplicates", "gallery", "--out", "found")
    assert result.exit_code == 0
    assert "exact" in result.stdout
    assert "wrote found/duplicates.csv, found/duplicates.html" in result.stdout
    assert (folder / "found" / "duplicates.html").read_text("utf-8").count("<img") >= 2
    found = json.loads(run("duplicates", "gallery", "--json").stdout)
    assert found["exact"] == 1
    assert {"arch/0.jpg", "arch/copy.jpg"} <= {one["id"] for one in found["groups"][0]}
    assert sorted((folder / "photos").rglob("*")) == before
    (folder / "photos" / "arch" / "copy.jpg").unlink()
    again = run("duplicates", "gallery", "--json")
    assert json.loads(again.stdout)["exact"] == 0
    assert "copy.jpg: the file is missing" in again.stderr
    assert json.loads(run("duplicates", "gallery", "--no-pixels", "--json").stdout)["exact"] == 1
    with pytest.raises(UsageError, match="threshold"):
        run("duplicates", "gallery", "--threshold", "7")


def test_a_copy_of_a_gallery_goes_on_where_the_original_was(folder: Path) -> None:
    assert "wrote 13 x 1280 float16 to g.parquet" in run("export-descriptors", "gallery", "g.parquet").stdout
    result = run("import-descriptors", "g.parquet", "--out", "copy")
    assert "added 13\n13 items of imagenet-lite0" in result.stdout
    with (
        open_gallery("copy", precision="fp32") as copy,
        open_gallery("gallery", precision="fp32") as original,
    ):
        picture = folder / "photos" / "bridge" / "1.jpg"
        assert copy.search(picture) == original.search(picture)
        # Files are recognised: nothing is encoded again.
        assert copy.update(read_catalog(folder / "photos")).unchanged == 13
    found = json.loads(run("import-descriptors", "g.parquet", "--out", "copy", "--json").stdout)
    assert (found["added"], found["unchanged"], found["items"]) == (0, 13, 13)


def test_a_folder_for_autofaiss(folder: Path) -> None:
    run("export-descriptors", "gallery", "e", "--dtype", "float32")
    assert sorted(str(file.relative_to(folder)) for file in (folder / "e").rglob("*.*")) == [
        "e/cfcd.json",
        "e/img_emb/img_emb_0.npy",
        "e/metadata/metadata_0.parquet",
    ]
    (folder / "e" / "cfcd.json").unlink()
    with pytest.raises(UsageError, match="--model MODEL"):
        run("import-descriptors", "e", "--out", "copy")
    assert "added 13" in run("import-descriptors", "e", "--out", "copy", "--model", "imagenet-lite0").stdout
    with pytest.raises(GalleryError, match="not empty"):
        run("export-descriptors", "gallery", "e")
