from __future__ import annotations

from pathlib import Path

import pytest

from cfcd.catalog import Catalog, read_catalog
from cfcd.catalog.benchmarks import CARS, CUB, IN_SHOP, PRODUCTS
from cfcd.check import check_catalog
from cfcd.encoding import Encoder, load_model
from cfcd.encoding.bulk import encode_catalog
from cfcd.errors import CatalogError
from cfcd.evaluation import evaluate
from cfcd.training.data import TrainingSet
from tests.support import make_photo

PRODUCT_HEADER = "image_id class_id super_class_id path\n"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_model("imagenet-lite0", long_side=64)


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def draw(root: Path, catalog: Catalog) -> None:
    """Draw a picture for every row; pictures of a label are the same."""
    numbers = {label: number for number, label in enumerate(sorted(set(map(str, catalog.labels or ()))))}
    for path, label in zip(catalog.paths, catalog.labels or (), strict=True):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        make_photo(numbers[str(label)]).save(root / path)


def products(root: Path) -> Path:
    train = "".join(f"{n} {n // 3} 1 bicycle_final/{n}.JPG\n" for n in range(3, 9))
    test = "".join(f"{n} {n // 3} 2 chair_final/{n}.JPG\n" for n in range(9, 18))
    write(root / "Ebay_train.txt", PRODUCT_HEADER + train)
    write(root / "Ebay_test.txt", PRODUCT_HEADER + test)
    return root


def shop(root: Path) -> Path:
    header = "5\nimage_name                                item_id         evaluation_status\n"
    rows = [("train", 1), ("train", 1), ("train", 2), ("query", 3), ("gallery", 3), ("gallery", 4)]
    lines = [
        f"img/WOMEN/id_{item}/{at}_front.jpg     id_{item}  {part}\n" for at, (part, item) in enumerate(rows)
    ]
    write(root / "Eval" / "list_eval_partition.txt", header + "".join(lines))
    return root


def birds(root: Path) -> Path:
    classes = [1, 1, 100, 100, 101, 101, 200, 200]
    write(root / "images.txt", "".join(f"{n} {c:03}.Bird/{n}.jpg\n" for n, c in enumerate(classes, start=1)))
    write(root / "image_class_labels.txt", "".join(f"{n} {c}\n" for n, c in enumerate(classes, start=1)))
    write(root / "classes.txt", "".join(f"{c} {c:03}.Bird\n" for c in sorted(set(classes))))
    write(root / "train_test_split.txt", "".join(f"{n} {n % 2}\n" for n in range(1, 9)))
    return root


def cars(root: Path) -> Path:
    rows = [f"car_ims/{n}.jpg,1,2,30,40,{c},{n % 2}" for n, c in enumerate([1, 1, 98, 98, 99, 99, 196, 196])]
    header = "relative_im_path,bbox_x1,bbox_y1,bbox_x2,bbox_y2,class,test"
    write(root / "cars_annos.csv", "\n".join([header, *rows, ""]))
    return root


MAKERS = {PRODUCTS: products, IN_SHOP: shop, CUB: birds, CARS: cars}
RECALLS = {PRODUCTS: {100, 1000}, IN_SHOP: {20, 30}, CUB: {2, 4, 8}, CARS: {2, 4, 8}}
SIZES = {PRODUCTS: (6, 9, 9), IN_SHOP: (3, 1, 2), CUB: (4, 4, 4), CARS: (4, 4, 4)}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_benchmark_is_evaluated_on_its_test_split_and_trained_on_the_other(
    tmp_path: Path, encoder: Encoder, kind: str
) -> None:
    data = MAKERS[kind](tmp_path / "data")
    catalog = read_catalog(data)
    assert (catalog.kind, catalog.problems) == (kind, ())
    assert len(set(catalog.ids)) == len(catalog)
    train, queries, gallery = SIZES[kind]
    chosen = TrainingSet.from_catalog(catalog)
    assert (len(chosen), len(chosen.classes)) == (train, 2)
    sides = catalog.query_gallery()
    assert sides is not None
    assert tuple(map(len, sides)) == (queries, gallery)
    splits = catalog.splits or ()
    assert "train" not in {splits[row] for side in sides for row in side}

    draw(data, catalog)
    found = evaluate(data, encoder)
    assert found.report.protocol == ("query/gallery" if kind == IN_SHOP else "leave-one-out")
    assert (found.report.queries, found.report.gallery) == (queries, gallery)
    assert (found.report.mAP, found.report.r_precision) == pytest.approx((100, 100))
    assert set(found.report.recall_at) == {1, 5, 10} | RECALLS[kind]
    assert set(evaluate(data, encoder, recalls=[3]).report.recall_at) == {1, 3, 5, 10}
    encode_catalog(catalog, encoder, tmp_path / "encoded")
    again = evaluate(tmp_path / "encoded").report
    assert (again.protocol, again.queries, again.gallery) == (found.report.protocol, queries, gallery)


def test_products(tmp_path: Path) -> None:
    catalog = read_catalog(products(tmp_path))
    item = catalog[6]
    assert (item.id, item.path) == ("chair_final/9.JPG", tmp_path / "chair_final/9.JPG")
    assert (item.label, item.split, item.is_query, item.is_gallery) == ("3", "test", True, True)
    assert dict(item.extra) == {"image_id": "9", "super_class_id": "2"}
    assert (catalog[0].split, catalog[0].is_query, catalog[0].is_gallery) == ("train", False, False)


@pytest.mark.parametrize(
    ("name", "split", "rows"), [("Ebay_test.txt", "test", 9), ("Ebay_train.txt", "train", 6)]
)
def test_one_file_of_products_searches_itself(tmp_path: Path, name: str, split: str, rows: int) -> None:
    catalog = read_catalog(products(tmp_path) / name)
    assert (catalog.splits, catalog.query_gallery()) == ([split] * rows, None)
    assert catalog.kind == PRODUCTS


def test_the_list_of_all_products_has_no_splits(tmp_path: Path) -> None:
    catalog = read_catalog(
        write(tmp_path / "Ebay_info.txt", PRODUCT_HEADER + "1 1 1 a/1.JPG\n2 1 1 a/2.JPG\n")
    )
    assert (catalog.kind, catalog.splits, len(catalog)) == (PRODUCTS, None, 2)


def test_half_of_the_products_are_refused(tmp_path: Path) -> None:
    (products(tmp_path) / "Ebay_test.txt").unlink()
    with pytest.raises(CatalogError, match=r"without Ebay_test\.txt\. Put it there"):
        read_catalog(tmp_path)


@pytest.mark.parametrize("place", [".", "Img", "Eval", "Eval/Img"])
def test_pictures_of_in_shop_are_found_where_they_are(tmp_path: Path, place: str) -> None:
    file = shop(tmp_path) / "Eval" / "list_eval_partition.txt"
    write(tmp_path / place / "img/WOMEN/id_1/0_front.jpg", "")
    for data in (file, tmp_path):
        if data == file or not place.startswith("Eval"):
            assert read_catalog(data)[0].path == tmp_path / place / "img/WOMEN/id_1/0_front.jpg"
    assert read_catalog(file, root=tmp_path / place)[0].path.is_file()


def test_in_shop_without_pictures_lies_beside_eval(tmp_path: Path) -> None:
    file = shop(tmp_path) / "Eval" / "list_eval_partition.txt"
    assert read_catalog(file).root == tmp_path
    report = check_catalog(read_catalog(file))
    assert {problem.kind for problem in report.problems if problem.fatal} == {"missing"}


def test_partition_files_of_other_datasets_are_lists(tmp_path: Path) -> None:
    file = write(tmp_path / "list_eval_partition.txt", "000001.jpg 0\n000002.jpg 1\n")
    assert read_catalog(file).kind == "list"
    write(tmp_path / "a" / "1.jpg", "")
    assert read_catalog(tmp_path).kind == "folder"


def test_birds_take_their_class_from_the_official_files(tmp_path: Path) -> None:
    catalog = read_catalog(birds(tmp_path))
    assert catalog.labels == [f"{c:03}.Bird" for c in (1, 1, 100, 100, 101, 101, 200, 200)]
    assert catalog.splits == ["train"] * 4 + ["test"] * 4
    assert catalog.paths[0] == "images/001.Bird/1.jpg"
    (tmp_path / "classes.txt").unlink()
    by_file = read_catalog(tmp_path / "images.txt")
    assert by_file.labels == ["1", "1", "100", "100", "101", "101", "200", "200"]
    assert (by_file.kind, by_file.source) == (CUB, tmp_path / "images.txt")


def test_a_list_named_images_is_a_list(tmp_path: Path) -> None:
    assert read_catalog(write(tmp_path / "images.txt", "1 a.jpg\n")).kind == "list"


def test_cars_keep_their_further_columns(tmp_path: Path) -> None:
    catalog = read_catalog(cars(tmp_path) / "cars_annos.csv")
    assert catalog.splits == ["train"] * 4 + ["test"] * 4
    assert (catalog.paths[4], (catalog.labels or [])[4]) == ("car_ims/4.jpg", "99")
    assert catalog.boxes is None


def cars_by_class(root: Path) -> Path:
    makes = ["AM General Hummer SUV 2000", *(f"Car {n:03}" for n in range(96)), "Eagle Talon Hatchback 1998"]
    makes += ["FIAT 500 Abarth 2012", *(f"Ford {n:03}" for n in range(96)), "smart fortwo Convertible 2012"]
    for make in makes:
        write(root / make / "1.jpg", "")
    return root


@pytest.mark.parametrize("below", [".", "car_ims"])
def test_cars_in_a_folder_per_class_train_on_the_first_98(tmp_path: Path, below: str) -> None:
    cars_by_class(tmp_path / below)
    catalog = read_catalog(tmp_path)
    assert catalog.kind == CARS
    train = {str(label).rpartition("/")[2] for label in TrainingSet.from_catalog(catalog).classes}
    assert len(train) == 98
    assert {"AM General Hummer SUV 2000", "Eagle Talon Hatchback 1998"} <= train
    assert "FIAT 500 Abarth 2012" not in train
    sides = catalog.query_gallery()
    assert sides is not None
    assert sides[0] == sides[1]
    assert len(sides[0]) == 98


def test_cars_split_into_train_and_test_stay_so(tmp_path: Path) -> None:
    for split in ("train", "test"):
        cars_by_class(tmp_path / split)
    assert read_catalog(tmp_path).kind == "folder"


def test_matlab_files_are_refused_with_what_to_do(tmp_path: Path) -> None:
    file = write(tmp_path / "cars_annos.mat", "")
    write(tmp_path / "car_ims" / "1.jpg", "")
    for data in (file, tmp_path):
        with pytest.raises(
            CatalogError, match=r"MATLAB file, which cfcd does not read\. Write its annotations"
        ):
            read_catalog(data)
    cars(tmp_path)
    assert read_catalog(tmp_path).kind == CARS


def test_a_catalog_of_ones_own_comes_first(tmp_path: Path) -> None:
    write(products(tmp_path) / "catalog.csv", "path,label\na.jpg,a\n")
    assert read_catalog(tmp_path).kind == "csv"


@pytest.mark.parametrize(
    ("maker", "name", "line", "row", "kind"),
    [
        (products, "Ebay_test.txt", "18 6 2", 11, "wrong-fields"),
        (products, "Ebay_test.txt", "18 6 2 ../../x.JPG", 11, "bad-path"),
        (products, "Ebay_test.txt", "18 6 2 chair_final/9.JPG", 11, "duplicate-id"),
        (shop, "Eval/list_eval_partition.txt", "img/x.jpg id_1 val", 9, "bad-split"),
        (birds, "images.txt", "9 x.jpg", 9, "bad-class"),
        (birds, "image_class_labels.txt", "9", 9, "wrong-fields"),
        (cars, "cars_annos.csv", "x.jpg,0,0,1,1,[7],0", 10, "bad-class"),
        (cars, "cars_annos.csv", "x.jpg,7", 10, "wrong-fields"),
    ],
)
def test_bad_lines_are_named_and_left_out(
    tmp_path: Path, maker, name: str, line: str, row: int, kind: str
) -> None:
    rows = len(read_catalog(maker(tmp_path)))
    with (tmp_path / name).open("a") as file:
        file.write(line + "\n")
    catalog = read_catalog(tmp_path)
    assert len(catalog) == rows
    assert [(problem.kind, problem.fatal, problem.row) for problem in catalog.problems] == [(kind, True, row)]


def test_files_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="lists no pictures"):
        read_catalog(write(tmp_path / "Ebay_test.txt", PRODUCT_HEADER))
