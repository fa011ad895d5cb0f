from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfcd.catalog import Catalog, read_catalog
from cfcd.catalog.columns import box_fault, text_of
from cfcd.errors import CatalogError


def read(tmp_path: Path, text: str | bytes, name: str = "catalog.csv") -> Catalog:
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / name).write_bytes(content)
    return read_catalog(tmp_path / name)


def test_all_columns(tmp_path: Path) -> None:
    catalog = read(
        tmp_path,
        "path,label,id,split,is_query,is_gallery,x_1,y_1,x_2,y_2,city,year\n"
        "a/1.jpg,arch,one,train,1,FALSE,1,2.5,30,40,Nice,1900\n"
        "2.jpg,,two,,yes,,,,,,,\n",
    )
    first, second = catalog
    assert (first.id, first.path, first.label, first.split) == ("one", tmp_path / "a/1.jpg", "arch", "train")
    assert (first.is_query, first.is_gallery, first.box) == (True, False, (1.0, 2.5, 30.0, 40.0))
    assert first.extra == {"city": "Nice", "year": "1900"}
    assert (second.label, second.split, second.is_query, second.is_gallery, second.box) == (
        None,
        None,
        True,
        None,
        None,
    )
    assert second.extra == {"city": "", "year": ""}
    assert (catalog.kind, list(catalog.rows or ()), catalog.problems) == ("csv", [2, 3], ())


def test_every_bad_row_is_left_out_and_named(tmp_path: Path) -> None:
    catalog = read(
        tmp_path,
        "path,id,is_query,x_1,y_1,x_2,y_2\n"
        "ok.jpg,ok,1,0,0,5,5\n"  # 2
        ",empty,1,,,,\n"  # 3
        "../up.jpg,up,1,,,,\n"  # 4
        "flag.jpg,flag,maybe,,,,\n"  # 5
        "half.jpg,half,0,1,,3,\n"  # 6
        "word.jpg,word,0,1,2,x,4\n"  # 7
        "inverted.jpg,inverted,0,5,5,1,1\n"  # 8
        "nan.jpg,nan,0,nan,0,1,1\n"  # 9
        "again.jpg,ok,0,,,,\n"  # 10
        "noid.jpg, ,0,,,,\n"  # 11
        "short.jpg,short\n"  # 12
        "\n"  # 13 is empty, and no problem
        "long.jpg,long,0,,,,,9\n"  # 14
        "two.jpg,two,what,1,,,\n"  # 15 has two problems
        "end.jpg,end,0,,,,\n",  # 16
    )
    assert catalog.ids == ["ok", "end"]
    assert list(catalog.rows or ()) == [2, 16]
    assert all(problem.fatal for problem in catalog.problems)
    assert [(problem.row, problem.kind) for problem in catalog.problems] == [
        (3, "bad-path"),
        (4, "bad-path"),
        (5, "bad-flag"),
        (6, "bad-box"),
        (7, "bad-number"),
        (8, "bad-box"),
        (9, "bad-box"),
        (10, "duplicate-id"),
        (11, "bad-id"),
        (12, "wrong-fields"),
        (14, "wrong-fields"),
        (15, "bad-flag"),
        (15, "bad-box"),
    ]
    by_row = {problem.row: problem for problem in catalog.problems}
    assert "leaves the catalog's folder" in by_row[4].message
    assert by_row[4].file == "../up.jpg"
    assert "y_1, y_2 empty" in by_row[6].message
    assert "row 2" in by_row[10].message


def test_a_bad_row_does_not_take_an_id_from_a_good_one(tmp_path: Path) -> None:
    catalog = read(tmp_path, "path,id,x_1,y_1,x_2,y_2\na.jpg,one,1,,,\nb.jpg,one,,,,\n")
    assert (catalog.ids, catalog.paths) == (["one"], ["b.jpg"])
    assert [problem.row for problem in catalog.problems] == [2]


def test_paths_that_come_back_with_other_boxes_get_numbers(tmp_path: Path) -> None:
    catalog = read(
        tmp_path,
        "path,label,x_1,y_1,x_2,y_2\n"
        "a.jpg,p,0,0,5,5\n"
        "a.jpg,q,5,5,9,9\n"
        "a.jpg#2,p,,,,\n"
        "a.jpg,p,,,,\n"
        "a.jpg,r,0,0,5,5\n",
    )
    assert catalog.paths == ["a.jpg", "a.jpg", "a.jpg#2", "a.jpg"]
    assert len(set(catalog.ids)) == 4
    assert catalog.ids[:2] == ["a.jpg", "a.jpg#2"]
    (problem,) = catalog.problems
    assert (problem.kind, problem.row) == ("duplicate-id", 6)
    assert problem.message == "the path was used in row 2, there with label 'p', here 'r'"


def test_the_same_path_twice_without_boxes(tmp_path: Path) -> None:
    catalog = read(tmp_path, "path\na.jpg\nb.jpg\na.jpg\n")
    assert catalog.ids == ["a.jpg", "b.jpg"]
    assert [(problem.kind, problem.row) for problem in catalog.problems] == [("duplicate-id", 4)]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na b.jpg,x\n",
        "path,label\r\na b.jpg,x\r\n",
        "\ufeffpath,label\na b.jpg,x\n",
        "path;label\na b.jpg;x\n",
        "path\tlabel\na b.jpg\tx\n",
        "path, label\na b.jpg, x\n",
        'path, label\n"a b.jpg", "x"\n',
        "Path , LABEL\na b.jpg,x",
        '"path","label"\n"a b.jpg","x"\n',
        "label,path\nx,a b.jpg\n",
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
def test_dialects(tmp_path: Path, text: str, name: str) -> None:
    catalog = read(tmp_path, text, name)
    assert [(item.id, item.label, item.row) for item in catalog] == [("a b.jpg", "x", 2)]
    assert catalog.problems == ()


def test_only_the_header_decides_on_the_delimiter(tmp_path: Path) -> None:
    catalog = read(tmp_path, "path,label\na;b.jpg,x;y;z\nc;d.jpg,u;v;w\n")
    assert [(item.id, item.label) for item in catalog] == [("a;b.jpg", "x;y;z"), ("c;d.jpg", "u;v;w")]


def test_rows_count_like_a_spreadsheet_when_cells_have_line_breaks(tmp_path: Path) -> None:
    catalog = read(tmp_path, 'path,note\n"1.jpg","two\nlines"\n2.jpg,x\n')
    assert list(catalog.rows or ()) == [2, 3]
    assert catalog.extra["note"] == ["two\nlines", "x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not start with a header line"),
        ("path,label\n", "has a header but no rows"),
        ("filename,label\na.jpg,x\n", "rename 'filename' to path"),
        ("Pth,label\na.jpg,x\n", "rename 'Pth' to path"),
        ("alpha,beta\na.jpg,x\n", "columns are 'alpha', 'beta'"),
        ("a.jpg,x\nb.jpg,y\n", "has no header line: its first line is 'a.jpg,x'"),
        ("path,path\na.jpg,b.jpg\n", "several columns named 'path'"),
        ("path,x_1,y_1\na.jpg,1,2\n", "lacks x_2, y_2"),
        ('path,label\na.jpg,"x\nb.jpg,y\n', "cannot be read as a table at line 3"),
        ("path\n" + "x" * 140_000 + "\n", "cannot be read as a table at line 2"),
        ("é" * 100_000, "has no column 'path'"),
        ("x" * 140_000, "has no header line"),
        (b"path,label\n\xe9t\xe9.jpg,x\n", "not UTF-8"),
        ("path,label\na.jpg,x\n".encode("utf-16"), "not UTF-8"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        read(tmp_path, text)


def test_a_long_first_line_is_not_repeated_in_full(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        read(tmp_path, "x" * 100_000)
    assert len(str(caught.value)) < 500


def test_columns_that_look_misnamed_are_kept_and_named(tmp_path: Path) -> None:
    catalog = read(tmp_path, "path,class,Splits,year\n1.jpg,a,test,1900\n")
    assert catalog.labels is None
    assert sorted(catalog.extra) == ["Splits", "class", "year"]
    assert [(problem.kind, problem.fatal, problem.row) for problem in catalog.problems] == [
        ("unknown-column", False, 1),
        ("unknown-column", False, 1),
    ]
    assert "'class'" in catalog.problems[0].message


def test_a_root_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "t.csv").write_text("path\n1.jpg\n../2.jpg\n/3.jpg\n")
    catalog = read_catalog(tmp_path / "t.csv", root=tmp_path / "pictures")
    assert [item.path for item in catalog] == [tmp_path / "pictures" / "1.jpg", Path("/3.jpg")]
    with pytest.raises(CatalogError, match="is not a folder"):
        read_catalog(tmp_path / "t.csv", root=tmp_path / "absent")


def test_rows_are_right_across_blocks(tmp_path: Path) -> None:
    lines = [f"{number}.jpg,{number % 7}" for number in range(2, 5000)]
    lines[3000] = "bad"
    catalog = read(tmp_path, "\n".join(["path,label", *lines]))
    assert [problem.row for problem in catalog.problems] == [3002]
    assert all(path == f"{row}.jpg" for path, row in zip(catalog.paths, catalog.rows or (), strict=True))
    assert len(catalog) == len(lines) - 1


def test_a_table_of_bad_rows_only_is_an_empty_catalog(tmp_path: Path) -> None:
    catalog = read(tmp_path, "path,label\n,x\nonly\n")
    assert len(catalog) == 0
    assert [problem.row for problem in catalog.problems] == [2, 3]


_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
_NAME = st.text(
    st.characters(categories=("L", "N"), include_characters=" ;,\t'\"é.-"), min_size=1, max_size=12
)


@given(
    st.dictionaries(_NAME.map(lambda name: f"d/{name}.jpg"), st.tuples(_TEXT, _TEXT), min_size=1, max_size=8)
)
def test_what_the_csv_module_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, tuple[str, str]]
) -> None:
    file = tmp_path_factory.mktemp("csv") / "t.csv"
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerow(["path", "label", "note"])
    writer.writerows((path, label, note) for path, (label, note) in table.items())
    file.write_bytes(buffer.getvalue().encode())
    catalog = read_catalog(file)
    expected = [(path, label if label.strip() else None, note) for path, (label, note) in table.items()]
    assert [(item.id, item.label, item.extra["note"]) for item in catalog] == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("", None),
        (" ", None),
        (" a", " a"),
        (0, "0"),
        (3.0, "3"),
        (3.5, "3.5"),
        (float("nan"), None),
    ],
)
def test_text_of(value: object, text: str | None) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (0, 0, 1, 0), (2, 0, 1, 1), (0, 0, float("inf"), 1)])
def test_faulty_boxes(box: tuple[float, float, float, float]) -> None:
    assert box_fault(box)
    assert box_fault((0, 0, 1, 1)) is None
