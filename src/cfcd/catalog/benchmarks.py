"""Benchmarks of metric learning, by their official split files: Stanford Online Products, In-Shop, CUB, Cars.

All but In-Shop are zero-shot: no class of the test split is in the train split, and every test picture
searches all other test pictures (Oh Song et al., "Deep Metric Learning via Lifted Structured Feature
Embedding", CVPR 2016). Their test rows are queries and gallery at once, their train rows neither.
In-Shop has queries and a gallery (Liu et al., "DeepFashion", CVPR 2016). Pictures are taken whole: boxes that
come with CUB and Cars are left aside, as these protocols do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cfcd.catalog.columns import catalog_from_columns
from cfcd.catalog.delimited import blocks_of, open_text, read_header
from cfcd.catalog.paths import suffix_of
from cfcd.catalog.table import Catalog, Problem
from cfcd.errors import CatalogError

PRODUCTS, IN_SHOP, CUB, CARS = "stanford-online-products", "in-shop", "cub-200-2011", "cars-196"
USUAL_RECALLS = {
    PRODUCTS: (1, 10, 100, 1000),
    IN_SHOP: (1, 10, 20, 30),
    CUB: (1, 2, 4, 8),
    CARS: (1, 2, 4, 8),
}
"""The k at which the literature gives R@k, by `Catalog.kind`."""

_PRODUCT_FILES = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
_PRODUCT_HEADER = ["image_id", "class_id", "super_class_id", "path"]
_SHOP_FILE = "list_eval_partition.txt"
_SHOP_HEADER = ["image_name", "item_id", "evaluation_status"]
_CUB_FILES = ("images.txt", "image_class_labels.txt")
_CUB_TRAIN, _CARS_TRAIN = 100, 98  # classes, of 200 and of 196
_CARS_CLASSES = 196
_CARS_FIRST_CLASS = "AM General Hummer"
_CARS_TABLE, _CARS_MATLAB = "cars_annos.csv", "cars_annos.mat"
_LONGEST_LINE = 65_536

Read = Callable[[Path], Catalog]


def benchmark_folder(folder: Path) -> Read | None:
    """Tell by its split files whether a folder is a benchmark; give what reads it from its root."""
    if any((folder / name).is_file() for name in _PRODUCT_FILES.values()):
        return lambda root: _read_products(folder, _both_product_files(folder), root)
    for file in (folder / _SHOP_FILE, folder / "Eval" / _SHOP_FILE):
        if file.is_file() and _is_shop(file):
            return lambda root: _read_shop(file, root)
    if all((folder / name).is_file() for name in _CUB_FILES):
        return lambda root: _read_cub(folder, folder, root)
    if (folder / _CARS_TABLE).is_file():
        return lambda root: _read_cars(folder / _CARS_TABLE, root)
    return None


def benchmark_file(source: Path) -> Read | None:
    """Tell whether a file is the split file of a benchmark; give what reads it from the root of its paths.

    Raises:
        CatalogError: It is `cars_annos.mat`, or no text.
    """
    suffix = suffix_of(source.name)
    if source.name == _CARS_MATLAB:
        raise _matlab(source)
    if suffix == ".csv":
        is_cars = {"relative_im_path", "class"} <= set(read_header(source)[0])
        return (lambda root: _read_cars(source, root)) if is_cars else None
    if suffix != ".txt":
        return None
    if source.name in _CUB_FILES and all((source.parent / name).is_file() for name in _CUB_FILES):
        return lambda root: _read_cub(source, source.parent, root)
    if _first_lines(source)[0].split() == _PRODUCT_HEADER:
        # Ebay_info.txt lists all pictures, and which of them train it does not say.
        split = next((name for name in _PRODUCT_FILES if name in source.stem.lower()), None)
        return lambda root: _read_products(source, {split: source}, root)
    return (lambda root: _read_shop(source, root)) if _is_shop(source) else None


def with_cars_protocol(catalog: Catalog) -> Catalog:
    """Give a folder of pictures its splits if it is Cars-196 with one sub-folder per class.

    The official classes are numbered by make, and make by make they sort as their names do, so the first 98
    names are the first 98 numbers. A folder that is split into train and test already is left as it is.

    Raises:
        CatalogError: It holds `cars_annos.mat` and no such sub-folders.
    """
    classes = sorted({label for label in catalog.labels or () if label})
    first = classes[0].rpartition("/")[2].replace("_", " ") if classes else ""
    if len(classes) == _CARS_CLASSES and first.startswith(_CARS_FIRST_CLASS):
        if catalog.splits is not None:
            return catalog
        train = set(classes[:_CARS_TRAIN])
        splits = [None if label is None else _split(label in train) for label in catalog.labels or ()]
        tests: list[bool | None] = [split == "test" for split in splits]
        return replace(catalog, kind=CARS, splits=splits, is_query=tests, is_gallery=tests)
    if (catalog.root / _CARS_MATLAB).is_file():
        raise _matlab(catalog.root / _CARS_MATLAB)
    return catalog


def _read_products(source: Path, files: Mapping[str | None, Path], root: Path) -> Catalog:
    """Read Ebay_train.txt and Ebay_test.txt, or one of them: "image_id class_id super_class_id path"."""
    table = _Table()
    for split, file in files.items():
        for row, (image, label, above, path) in table.lines(file, _PRODUCT_HEADER, skip=1):
            further = {"image_id": image, "super_class_id": above}
            table.add(row, path=path, label=label, split=split, **further)
    return table.catalog(source, root, PRODUCTS)


def _both_product_files(folder: Path) -> dict[str | None, Path]:
    files: dict[str | None, Path] = {split: folder / name for split, name in _PRODUCT_FILES.items()}
    for file in files.values():
        if not file.is_file():
            raise CatalogError(
                f"{folder} is Stanford Online Products without {file.name}.",
                "Put it there, or name the file to read instead of the folder.",
            )
    return files


def _read_shop(source: Path, root: Path) -> Catalog:
    """Read list_eval_partition.txt: the number of lines, "image_name item_id evaluation_status", lines."""
    table = _Table()
    for row, (path, label, split) in table.lines(source, _SHOP_HEADER, skip=2):
        if split in ("train", "query", "gallery"):
            table.add(row, path=path, label=label, split=split)
        else:
            table.fail("bad-split", f"{split!r} is not train, query or gallery", row)
    return table.catalog(source, _shop_root(root, table.columns.get("path", ())), IN_SHOP)


def _shop_root(root: Path, paths: Sequence[str]) -> Path:
    """Find the folder with `img/`: the archive of the pictures is often unpacked beside Eval/, or in Img/."""
    bases = [root.parent, root] if root.name == "Eval" else [root]
    places = [place for base in bases for place in (base, base / "Img")]
    for place in places:
        if any((place / path).is_file() for path in paths[:1]):
            return place
    return bases[0]


def _read_cub(source: Path, folder: Path, root: Path) -> Catalog:
    """Read images.txt ("image_id path") with image_class_labels.txt ("image_id class_id") and classes.txt.

    `train_test_split.txt` splits every class, for classification; here classes 1 to 100 train.
    """
    table = _Table()
    numbers = {
        image: text for _, (image, text) in table.lines(folder / _CUB_FILES[1], ["image_id", "class_id"])
    }
    names = {}
    if (folder / "classes.txt").is_file():
        names = dict(fields for _, fields in table.lines(folder / "classes.txt", ["class_id", "name"]))
    for row, (image, path) in table.lines(folder / _CUB_FILES[0], ["image_id", "path"]):
        text = numbers.get(image, "")
        if (number := table.number(text, row)) is not None:
            table.add(
                row, path=f"images/{path}", label=names.get(text, text), split=_split(number <= _CUB_TRAIN)
            )
    return table.catalog(source, root, CUB)


def _read_cars(source: Path, root: Path) -> Catalog:
    """Read the fields of cars_annos.mat written as CSV: relative_im_path and class (1 to 196) suffice.

    The field `test` splits every class, for classification; here classes 1 to 98 train.
    """
    names, delimiter = read_header(source)
    at_path, at_class = names.index("relative_im_path"), names.index("class")
    table, row = _Table(), 1
    for block in blocks_of(source, delimiter):
        for fields in block:
            row += 1
            if len(fields) != len(names):
                if fields:
                    table.fail("wrong-fields", f"{len(fields)} fields where the header has {len(names)}", row)
            elif (number := table.number(fields[at_class], row)) is not None:
                table.add(row, path=fields[at_path], label=str(number), split=_split(number <= _CARS_TRAIN))
    return table.catalog(source, root, CARS)


class _Table:
    """Columns in the making, with the rows that cannot be taken."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {}
        self.rows: list[int] = []
        self.problems: list[Problem] = []

    def add(self, row: int, **values: str | None) -> None:
        self.rows.append(row)
        for name, value in values.items():
            self.columns.setdefault(name, []).append(value)

    def fail(self, kind: str, message: str, row: int) -> None:
        self.problems.append(Problem(kind, True, message, row=row))

    def number(self, text: str, row: int) -> int | None:
        """Read the number of a class, from 1 on."""
        if text.isascii() and text.isdecimal() and int(text) > 0:
            return int(text)
        self.fail("bad-class", f"the class is {text!r}, not a number from 1 on", row)
        return None

    def lines(self, file: Path, names: Sequence[str], skip: int = 0) -> Iterator[tuple[int, list[str]]]:
        """Give (line number, fields) of the lines below the first `skip` ones."""
        with open_text(file) as lines:
            for row, line in enumerate(lines, start=1):
                fields = line.split()
                if row > skip and len(fields) == len(names):
                    yield row, fields
                elif row > skip and fields:
                    message = f"{file.name}: {len(fields)} words, not {len(names)} ({' '.join(names)})"
                    self.fail("wrong-fields", message, row)

    def catalog(self, source: Path, root: Path, kind: str) -> Catalog:
        if not self.rows:
            raise CatalogError(f"{source} lists no pictures that can be used.", "Get the file again.")
        splits = self.columns["split"]
        if kind != IN_SHOP and {"train", "test"} <= set(splits):
            tests = [split == "test" for split in splits]
            self.columns |= {"is_query": tests, "is_gallery": tests}
        return catalog_from_columns(
            self.columns, self.rows, source=source, root=root, kind=kind, problems=self.problems
        )


def _split(is_train: bool) -> str:
    return "train" if is_train else "test"


def _is_shop(source: Path) -> bool:
    # CelebA and other parts of DeepFashion have files of this name with other columns.
    return _first_lines(source)[1].split() == _SHOP_HEADER


def _first_lines(source: Path) -> tuple[str, str]:
    with open_text(source) as file:
        return file.readline(_LONGEST_LINE), file.readline(_LONGEST_LINE)


def _matlab(file: Path) -> CatalogError:
    return CatalogError(
        f"{file} is a MATLAB file, which cfcd does not read.",
        f"Write its annotations to {_CARS_TABLE} beside it, with the columns relative_im_path and class, "
        "or sort the pictures into one folder per class.",
    )
