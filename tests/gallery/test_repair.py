from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from cfcd.errors import BusyError, CfcdError, GalleryError
from cfcd.gallery import Gallery
from cfcd.gallery.truth import repair
from cfcd.gallery.truth.changes import DamagedStore
from cfcd.gallery.truth.log import LogWriter
from cfcd.gallery.truth.store import FILE, Store
from cfcd.lock import only_writer
from tests.gallery.safety_support import Held, catalog, fill, held, make, vectors

LOG = "gallery.log"


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Held]:
    """A gallery that was left in order, with a saved index."""
    folder = tmp_path_factory.mktemp("left") / "g"
    with make(folder) as gallery:
        fill(gallery, 1100)
        return folder, held(gallery)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Held]:
    """What a writer leaves behind that is killed: SQLite's own log beside the store, nothing closed."""
    folder = tmp_path_factory.mktemp("killed") / "g"
    with make(folder) as gallery:
        fill(gallery, 60)
        with gallery._writing() as writer:
            for number in range(5):
                with writer.changing() as generation:
                    writer.remove([40 + number], generation)
            shutil.copytree(folder, folder.with_name("image"))
        return folder.with_name("image"), held(gallery)


def damage(file: Path, how: str, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    at = chance.randrange(max(1, len(data)))
    if how == "flip" and data:
        data[at] ^= 1 << chance.randrange(8)
    elif how == "zero":
        data[at : at + 3000] = bytes(len(data[at : at + 3000]))
    elif how == "cut":
        del data[at:]
    elif how == "append":
        data += chance.randbytes(700)
    file.write_bytes(data)
    if how == "delete":
        file.unlink()


@pytest.mark.parametrize("how", ["flip", "zero", "cut", "append", "delete"])
@pytest.mark.parametrize("state", ["left", "killed"])
def test_damage_to_any_one_file_loses_nothing(
    state: str, how: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    original, expected = request.getfixturevalue(state)
    names = [file.name for file in original.iterdir()]
    assert {FILE, LOG, *([f"{FILE}-wal"] if state == "killed" else ["index.json"])} <= set(names)
    for seed, name in enumerate([*names, FILE, FILE, LOG, f"{FILE}-wal"]):
        folder = tmp_path / str(seed)
        shutil.copytree(original, folder)
        if (folder / name).exists():
            damage(folder / name, how, random.Random(f"{name} {how} {seed}"))
        with Gallery(folder) as gallery:
            assert held(gallery) == expected, name
            gallery.remove(["item 30"])
            assert "item 30" not in held(gallery)
        # What was mended is whole in both copies: either alone gives everything.
        for other in (FILE, LOG) if name in {FILE, LOG} else ():
            alone = tmp_path / f"{seed} {other}"
            alone.mkdir()
            shutil.copy(folder / other, alone)
            with Gallery(alone) as gallery:
                assert held(gallery).keys() == expected.keys() - {"item 30"}


def test_a_change_between_log_and_store_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = LogWriter.append

    def copied(log: LogWriter, *arguments: object) -> None:
        append(log, *arguments)  # type: ignore[arg-type]
        shutil.copytree(tmp_path / "g", tmp_path / "image")

    with make(tmp_path / "g") as gallery:
        fill(gallery, 30)
        monkeypatch.setattr(LogWriter, "append", copied)
        gallery.add(catalog(["new", "item 3"], "in flight"), vectors(2, 3))
        monkeypatch.undo()
        expected = held(gallery)
        with Gallery(tmp_path / "image") as image:
            assert held(image) == expected
            assert image._store.token(4) == gallery._store.token(4)


def test_a_torn_end_of_the_log_was_never_acknowledged(tmp_path: Path) -> None:
    with make(tmp_path / "g") as gallery:
        fill(gallery, 30)
        expected = held(gallery)
    whole = (tmp_path / "g" / LOG).read_bytes()
    for size in (1, 40, 80, 200):
        (tmp_path / "g" / LOG).write_bytes(whole + whole[:size])
        with Gallery(tmp_path / "g") as gallery:
            assert held(gallery) == expected
        assert (tmp_path / "g" / LOG).read_bytes() == whole


def test_two_damaged_copies_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "g").close()
    for name in (FILE, LOG):
        (tmp_path / "g" / name).write_bytes(b"neither")
    with pytest.raises(GalleryError, match="both damaged"):
        Gallery(tmp_path / "g")


def test_a_log_of_another_gallery_is_put_aside(tmp_path: Path) -> None:
    with make(tmp_path / "other") as gallery:
        fill(gallery, 50)
    with make(tmp_path / "g") as gallery:
        fill(gallery, 20)
        expected = held(gallery)
    foreign = (tmp_path / "other" / LOG).read_bytes()
    (tmp_path / "g" / LOG).write_bytes(foreign)
    with Gallery(tmp_path / "g") as gallery:
        assert held(gallery) == expected
    (aside,) = (tmp_path / "g").glob("gallery-*.log")
    assert aside.read_bytes() == foreign


def rot(folder: Path, table: str, column: str) -> None:
    """Change a stored value as a failing disk would: nothing tells from outside."""
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE number = 7").fetchone()
        value = value[:-1] + b"\1" if isinstance(value, bytes) else f"{value}x"
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE number = 7", (value,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    repair.leave(folder)


@pytest.mark.parametrize(("table", "column"), [("descriptors", "vector"), ("items", "label")])
def test_what_a_reader_finds_damaged_is_mended_at_once(tmp_path: Path, table: str, column: str) -> None:
    with make(tmp_path / "g") as gallery:
        gallery.add(catalog([f"item {number}" for number in range(40)], "label"), vectors(40, 1))
        expected = held(gallery)
    rot(tmp_path / "g", table, column)
    with Gallery(tmp_path / "g") as first, Gallery(tmp_path / "g") as second:
        with pytest.raises(DamagedStore), first._store.reading():
            list(first._store.items())
            list(first._store.descriptors_above(0, first.dim))
        found, _ = second.contents()
        assert len(found) == 40
        assert held(second) == held(first) == expected
    rot(tmp_path / "g", table, column)
    with Gallery(tmp_path / "g") as writer:
        assert writer.remove(["item 6", "absent"]) == ["absent"]
        assert held(writer).keys() == expected.keys() - {"item 6"}


def test_damage_where_nothing_can_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(tmp_path / "g") as gallery:
        fill(gallery, 30)
        expected = held(gallery)
    with sqlite3.connect(tmp_path / "g" / FILE) as connection:
        connection.execute("UPDATE descriptors SET checksum = 0")
    connection.close()

    @contextmanager
    def refuse(folder: Path, _what: str) -> Iterator[None]:
        raise CfcdError(f"{folder} cannot be written to.", "Check.")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(repair, "only_writer", refuse)
        with (
            pytest.raises(GalleryError, match="cannot be mended where it is"),
            Gallery(tmp_path / "g") as gallery,
        ):
            gallery.contents()
    with Gallery(tmp_path / "g") as gallery:
        assert held(gallery) == expected


def test_compacting_keeps_everything_and_gives_space_back(tmp_path: Path) -> None:
    with make(tmp_path / "g") as gallery, Gallery(tmp_path / "g") as reader:
        for seed in range(6):
            gallery.add(catalog([f"item {number}" for number in range(300)]), vectors(300, seed))
        gallery.remove([f"item {number}" for number in range(250)])
        expected = held(reader)
        assert gallery.compact() > 0
        assert held(gallery) == held(reader) == expected
        size = (tmp_path / "g" / LOG).stat().st_size
        assert size < 50 * 1000
        gallery.add(catalog(["new"]), vectors(1, 8))
        expected = held(gallery)
    (tmp_path / "g" / FILE).unlink()
    with Gallery(tmp_path / "g") as gallery:
        assert held(gallery) == expected


OLD_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, source TEXT NOT NULL,
    key TEXT NOT NULL, path TEXT NOT NULL,
    label TEXT, split TEXT, is_query INTEGER, is_gallery INTEGER, row INTEGER,
    x_1 REAL, y_1 REAL, x_2 REAL, y_2 REAL, extra TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL, UNIQUE (source, key)
);
CREATE TABLE history (generation INTEGER PRIMARY KEY, token BLOB NOT NULL);
CREATE TABLE descriptors (number INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE removed (number INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
CREATE TABLE skipped (
    source TEXT NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL,
    size INTEGER, mtime_ns INTEGER, box TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (source, id)
) WITHOUT ROWID;
"""


def make_old(folder: Path, source: Path) -> None:
    """Make a gallery of format 1 with what another one holds."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.executescript(OLD_SCHEMA)
        connection.execute("ATTACH ? AS new", (str(source / FILE),))
        for table in ("meta", "items", "history", "descriptors", "removed", "skipped"):
            names = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
            listed = ", ".join(names)
            connection.execute(f"INSERT INTO main.{table} ({listed}) SELECT {listed} FROM new.{table}")
        connection.execute("UPDATE main.meta SET value = '1' WHERE key = 'format'")
        # Numbers above were given and taken again: they must not come back.
        connection.execute("UPDATE sqlite_sequence SET seq = 500 WHERE name = 'items'")
        connection.commit()
        connection.execute("PRAGMA main.journal_mode = WAL")


def test_a_gallery_of_the_format_before_is_read_and_gets_its_second_copy_when_written(tmp_path: Path) -> None:
    with make(tmp_path / "new") as gallery:
        fill(gallery, 40)
        expected = held(gallery)
        token = gallery._store.token(2)
    make_old(tmp_path / "g", tmp_path / "new")
    with Gallery(tmp_path / "g") as gallery:
        assert held(gallery) == expected
        assert len(gallery) == 35
    assert not (tmp_path / "g" / LOG).exists()
    with Gallery(tmp_path / "g") as reader, Gallery(tmp_path / "g") as gallery:
        assert gallery.remove(["item 30"]) == []
        gallery.add(catalog(["new"]), vectors(1, 9))
        expected.pop("item 30")
        for one in (gallery, reader):
            found = held(one)
            found.pop("new")
            assert found == expected
        assert gallery._store.token(2) == token
        stored = gallery._store.find("new")
        assert stored is not None
        assert stored.number == 501
    assert repair.examine(tmp_path / "g" / FILE) is not None
    (tmp_path / "g" / FILE).unlink()
    with Gallery(tmp_path / "g") as gallery:
        assert held(gallery).keys() == {*expected, "new"}


def test_a_store_rebuilt_under_a_reader_is_noticed(tmp_path: Path) -> None:
    with make(tmp_path / "g") as gallery, Gallery(tmp_path / "g") as reader:
        fill(gallery, 30)
        assert len(reader) == 25
        (tmp_path / "g" / FILE).write_bytes(b"gone")
        with Gallery(tmp_path / "g") as other:
            other.add(catalog(["new"]), vectors(1, 4))
        assert len(reader) == 26
        assert held(reader) == held(gallery)


def test_what_is_in_order_is_opened_without_a_look(
    left: tuple[Path, Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = left
    Gallery(folder).close()
    monkeypatch.setattr(repair, "mend", lambda _folder: pytest.fail("looked into the files"))
    with Gallery(folder) as gallery:
        assert np.array_equal(sorted(held(gallery)), sorted(expected))


def test_an_interrupted_mending_leaves_nothing_behind(tmp_path: Path) -> None:
    with make(tmp_path / "g") as gallery:
        fill(gallery, 30)
        expected = held(gallery)
    stray = tmp_path / "g" / f".{FILE}.12345.tmp"
    stray.write_bytes(b"half a store")
    (tmp_path / "g" / FILE).unlink()
    with Gallery(tmp_path / "g") as gallery:
        assert held(gallery) == expected
    assert not stray.exists()


def test_the_check_sees_a_row_that_is_missing_and_one_too_many(tmp_path: Path) -> None:
    with make(tmp_path / "g") as gallery:
        fill(gallery, 30)
    assert repair.examine(tmp_path / "g" / FILE) is not None
    for statement in (
        "DELETE FROM items WHERE number = 25",
        "DELETE FROM descriptors WHERE number = 25",
        "DELETE FROM removed WHERE number = 11",
        "INSERT INTO removed VALUES (25, 2)",
        "UPDATE meta SET value = '17' WHERE key = 'dim'",
        "DELETE FROM history WHERE generation = 2",
        "UPDATE history SET next_number = 3 WHERE generation = 3",
        "CREATE TABLE further (a)",
        "PRAGMA journal_mode = DELETE",
    ):
        shutil.copy(tmp_path / "g" / FILE, tmp_path / "copy.sqlite")
        with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as connection:
            connection.execute(statement)
            connection.commit()
        assert repair.examine(tmp_path / "copy.sqlite") is None, statement
    Store(tmp_path / "g").close()


def test_a_writer_waits_for_a_reader_that_mends(tmp_path: Path) -> None:
    with make(tmp_path / "g") as gallery:
        fill(gallery, 20)
        mender = ExitStack()
        mender.enter_context(only_writer(gallery.folder, "mending"))

        def remove() -> list[str]:
            with Gallery(tmp_path / "g") as other:
                return other.remove(["nothing"])

        with ThreadPoolExecutor(1) as pool:
            removed = pool.submit(remove)
            with pytest.raises(TimeoutError):
                removed.result(timeout=0.5)
            mender.close()
            assert removed.result(timeout=60) == ["nothing"]
        with only_writer(gallery.folder, "writing"), pytest.raises(BusyError):
            gallery.remove(["nothing"])


def test_a_gallery_is_made_once(tmp_path: Path) -> None:
    with make(tmp_path / "g") as gallery:
        fill(gallery, 20)
        expected = held(gallery)
        with pytest.raises(GalleryError, match="has just made"):
            Store.create(tmp_path / "g", {})
        assert held(gallery) == expected
