from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cfcd.catalog import Catalog, Problem, read_catalog
from cfcd.check import _judge_box, check_catalog
from cfcd.check_report import CheckReport
from cfcd.pictures import PictureLimits
from tests.support import make_photo


def jpeg(seed: int, size: tuple[int, int] = (96, 64)) -> bytes:
    buffer = io.BytesIO()
    make_photo(seed, size).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def findings(report: CheckReport) -> list[tuple[int | None, str, bool]]:
    return [(problem.row, problem.kind, problem.fatal) for problem in report.problems]


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A table with every kind of problem, and some rows without."""
    contents = {
        "a1.jpg": jpeg(1),
        "a2.jpg": jpeg(2),
        "copy.jpg": jpeg(1),
        "relabelled.jpg": jpeg(2),
        "empty.jpg": b"",
        "text.jpg": b"this is no picture",
        "cut.jpg": jpeg(3, (400, 300))[:-600],
        "tiny.png": b"",
        "strip.png": b"",
        "big.png": b"",
        "single.jpg": jpeg(4),
        "spelled.jpg": jpeg(5),
        "spelled2.jpg": jpeg(6),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name, size in (("tiny.png", (15, 40)), ("strip.png", (420, 20)), ("big.png", (500, 500))):
        Image.new("RGB", size, "teal").save(tmp_path / name)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "catalog.csv").write_text(
        "path,label,split,x_1,y_1,x_2,y_2\n"
        "a1.jpg,arch,train,,,,\n"  # 2
        "a2.jpg,arch,train,0,0,96,64\n"  # 3
        "a2.jpg,arch,train,0,0,50,50\n"  # 4
        "copy.jpg,arch,test,,,,\n"  # 5
        "relabelled.jpg,tower,train,0,0,50,50\n"  # 6
        "absent.jpg,tower,train,,,,\n"  # 7
        "empty.jpg,tower,train,,,,\n"  # 8
        "text.jpg,tower,train,,,,\n"  # 9
        "cut.jpg,tower,train,,,,\n"  # 10
        "tiny.png,tower,train,,,,\n"  # 11
        "strip.png,tower,train,,,,\n"  # 12
        "big.png,tower,train,,,,\n"  # 13
        "folder.jpg,tower,train,,,,\n"  # 14
        "a1.jpg,arch,train,96,0,120,20\n"  # 15
        "a1.jpg,arch,train,-3,0,20,20\n"  # 16
        "a1.jpg,arch,train,5,5,1,1\n"  # 17
        "single.jpg,alone,train,,,,\n"  # 18
        "spelled.jpg, Arch,train,,,,\n"  # 19
        "spelled2.jpg,ARCH,train,,,,\n"  # 20
    )
    return tmp_path


LIMITS = PictureLimits(max_pixels=200_000)


def test_everything_is_listed_at_once(zoo: Path) -> None:
    report = check_catalog(read_catalog(zoo), limits=LIMITS)
    assert findings(report) == [
        (17, "bad-box", True),
        (7, "missing", True),
        (8, "unreadable", True),
        (9, "unreadable", True),
        (10, "truncated", True),
        (11, "tiny", False),
        (12, "extreme-shape", False),
        (13, "too-large", True),
        (14, "missing", True),
        (15, "box-outside", True),
        (16, "box-partly-outside", False),
        (5, "duplicate", False),
        (6, "duplicate-two-labels", False),
        (18, "single-picture-label", False),
        (19, "single-picture-label", False),
        (20, "single-picture-label", False),
        (19, "similar-labels", False),
        (20, "similar-labels", False),
    ]
    by_row = {problem.row: problem for problem in report.problems}
    assert by_row[7].file == "absent.jpg"
    assert by_row[5].message == "same content as a1.jpg (row 2); split 'train' there, 'test' here"
    assert by_row[6].message == "same content as a2.jpg (row 4); label 'arch' there, 'tower' here"
    assert "15 x 40" in by_row[11].message
    assert (report.images, report.usable, report.labels) == (18, 11, 5)
    assert report.splits == {"train": 17, "test": 1}
    assert not report.ok


def test_headers_alone_show_all_but_the_cut_file(zoo: Path) -> None:
    catalog = read_catalog(zoo)
    full = findings(check_catalog(catalog, limits=LIMITS))
    quick = findings(check_catalog(catalog, decode=False, limits=LIMITS))
    assert quick == [found for found in full if found[1] != "truncated"]


def test_a_clean_folder_is_ok_and_progress_reaches_the_end(photos: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = check_catalog(read_catalog(photos), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 12) for done in range(1, 13)]
    assert (report.ok, report.problems, report.usable, report.labels) == (True, (), 12, 3)
    assert report.summary().splitlines()[1] == "  12 images, 3 labels"
    assert report.summary().endswith("no problems")


def test_notes_say_how_an_evaluation_would_go(photos: Path, tmp_path: Path) -> None:
    assert check_catalog(read_catalog(photos)).notes == ("an evaluation searches every image in all others",)
    assert check_catalog(read_catalog(photos / "arch")).notes == (
        "no labels: search works, an evaluation needs them",
    )
    (photos / "loose.jpg").write_bytes(jpeg(9))
    assert check_catalog(read_catalog(photos)).notes[1:] == ("1 of the images have no label",)
    lines = [f"photos/arch/{number}.jpg,x,{split}" for number, split in enumerate(("train", "test", "train"))]
    (tmp_path / "t.csv").write_text("path,label,split\n" + "\n".join(lines))
    assert check_catalog(read_catalog(tmp_path / "t.csv")).notes == (
        "an evaluation searches 1 queries in 2 images",
    )
    (tmp_path / "t.csv").write_text("path,label,is_query\nphotos/arch/0.jpg,x,0\nphotos/arch/1.jpg,x,0\n")
    assert findings(check_catalog(read_catalog(tmp_path / "t.csv"))) == [(None, "no-queries", False)]
    (tmp_path / "t.csv").write_text("path\narch/0.jpg\narch/1.jpg\n")
    assert "relative paths start from" in check_catalog(read_catalog(tmp_path / "t.csv")).notes[-1]


def test_boxes_of_one_picture_are_no_duplicates_but_the_same_box_twice_is(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    (tmp_path / "2.jpg").write_bytes(jpeg(1))
    rows = ["1.jpg,a,0,0,5,5", "1.jpg,b,5,5,9,9", "1.jpg,c,0,0,5,5", "2.jpg,d,5,5,9,9", "2.jpg,e,0,0,9,9"]
    (tmp_path / "t.csv").write_text("path,id,x_1,y_1,x_2,y_2\n" + "\n".join(rows))
    catalog = read_catalog(tmp_path / "t.csv")
    for decode in (True, False):
        assert findings(check_catalog(catalog, decode=decode)) == [
            (4, "duplicate", False),
            (5, "duplicate", False),
        ]


def test_pictures_of_equal_size_are_compared_by_content(tmp_path: Path) -> None:
    for name, colour in (("1.bmp", "red"), ("2.bmp", "blue"), ("3.bmp", "red")):
        Image.new("RGB", (20, 20), colour).save(tmp_path / name)
    for decode in (True, False):
        report = check_catalog(read_catalog(tmp_path), decode=decode)
        assert [problem.file for problem in report.problems] == ["3.bmp"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a Unix matter")
def test_pipes_and_links_to_nowhere_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for decode in (True, False):
        report = check_catalog(read_catalog(tmp_path), decode=decode)
        assert [(problem.file, problem.kind) for problem in report.problems] == [
            ("link.jpg", "missing"),
            ("loop.jpg", "missing"),
            ("pipe.jpg", "missing"),
        ]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("a\\b.jpg", "write / between"),
        ("https://x.org/a.jpg", "addresses are not fetched"),
        ("a.jpg", "no such file"),
    ],
)
def test_missing_files_come_with_a_hint(tmp_path: Path, path: str, hint: str) -> None:
    report = check_catalog(Catalog(tmp_path, tmp_path, "list", [path], [path]))
    assert hint in report.problems[0].message


def test_files_over_the_byte_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    read: list[Path] = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    report = check_catalog(read_catalog(tmp_path), limits=PictureLimits(max_bytes=100))
    assert findings(report) == [(None, "too-large", True)]
    assert read == []
    assert check_catalog(read_catalog(tmp_path)).ok
    assert len(read) == 1, "the counter must see the reading"


def test_json_holds_everything(zoo: Path) -> None:
    report = check_catalog(read_catalog(zoo), limits=LIMITS)
    value = json.loads(json.dumps(report.to_json()))
    assert value["ok"] is False
    assert len(value["problems"]) == len(report.problems) == value["fatal"] + value["warnings"] == 18
    assert sum(value["counts"].values()) == 18
    assert value["problems"][1] == {
        "kind": "missing",
        "fatal": True,
        "message": "no such file",
        "file": "absent.jpg",
        "row": 7,
    }


def report_of(*problems: Problem) -> CheckReport:
    return CheckReport("/d", "folder", 50, 40, 0, {}, problems, ())


def test_the_text_lists_fatal_kinds_first_and_aligned() -> None:
    text = report_of(
        Problem("duplicate", False, "same content as x", "a.jpg", 3),
        Problem("missing", True, "no such file", "b.jpg", 9),
        Problem("missing", True, "no such file", "long/name.jpg", 10),
        Problem("unused-table", False, "not read", "t.csv"),
    ).summary()
    assert text == (
        "/d (folder)\n"
        "  50 images, no labels\n"
        "\n"
        "fatal: missing (2)\n"
        "  row 9   b.jpg          no such file\n"
        "  row 10  long/name.jpg  no such file\n"
        "\n"
        "warning: duplicate (1)\n"
        "  row 3  a.jpg  same content as x\n"
        "\n"
        "warning: unused-table (1)\n"
        "  t.csv  not read\n"
        "\n"
        "2 fatal problems, 2 warnings; 40 usable images"
    )


def test_the_text_is_capped_per_kind() -> None:
    text = report_of(*(Problem("missing", True, "no such file", f"{n}.jpg") for n in range(1021))).summary()
    assert "  19.jpg  no such file\n  ... and 1,001 more (--json lists all)" in text
    assert "  20.jpg" not in text


def test_the_text_obeys_no_file_name() -> None:
    text = report_of(Problem("missing", True, "no such file", "a\x1b[31m\n\udc80é.jpg")).summary()
    assert "a\\x1b[31m\\n\\udc80é.jpg" in text
    assert text.encode()


@given(st.tuples(*[st.integers(-6, 12)] * 4), st.integers(1, 8), st.integers(1, 8))
def test_boxes_are_judged_as_by_counting_pixels(
    box: tuple[int, int, int, int], width: int, height: int
) -> None:
    x_1, y_1, x_2, y_2 = box
    columns, rows = range(x_1, x_2), range(y_1, y_2)
    inside = [(x, y) for x in columns for y in rows if 0 <= x < width and 0 <= y < height]
    # One column or row too many is a way of counting.
    far = [(x, y) for x in columns for y in rows if not (-1 <= x < width + 1 and -1 <= y < height + 1)]
    kinds = [(kind, fatal) for kind, fatal, _ in _judge_box(box, width, height)]
    if not inside:
        assert kinds == [("box-outside", True)]
    else:
        assert kinds == ([("box-partly-outside", False)] if far else [])


def test_real_photos_have_no_problems(shared_photos: Path) -> None:
    report = check_catalog(read_catalog(shared_photos / "landmarks_train"), decode=False)
    assert (report.ok, report.images, report.usable, report.labels) == (True, 1368, 1368, 23)
