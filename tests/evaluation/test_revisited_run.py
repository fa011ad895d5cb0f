"""Whole evaluations from a miniature of the official folders, and what they say of themselves."""

from __future__ import annotations

import json
import pickle
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfcd.catalog import read_catalog
from cfcd.encoding import Encoder, encode_catalog, load_model, read_encoded
from cfcd.errors import CatalogError, EncodingError, EvaluationError, IdentityMismatch, UsageError
from cfcd.evaluation.revisited_data import BENCHMARKS, truth_digest
from cfcd.evaluation.revisited_protocol import read_truth, revisited
from cfcd.evaluation.revisited_run import evaluate_files, evaluate_images
from tests.evaluation.revisited_miniature import make_distractors, make_miniature

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_model(precision="fp32", long_side=96)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_miniature(tmp_path / "roxford5k")
    return tmp_path / "roxford5k"


def test_figures_are_those_of_the_descriptors(root: Path, encoder: Encoder) -> None:
    found = evaluate_images("roxford5k", root, encoder)
    truth = pickle.loads((root / "gnd_roxford5k.pkl").read_bytes())
    database = encoder.encode([root / "jpg" / f"{name}.jpg" for name in truth["imlist"]])
    queries = np.concatenate(
        [
            encoder.encode(root / "jpg" / f"{name}.jpg", box=tuple(entry["bbx"]))
            for name, entry in zip(truth["qimlist"], truth["gnd"], strict=True)
        ]
    )
    wanted = revisited(queries, database, truth)
    assert [query.ap for query in found.report.per_query] == [query.ap for query in wanted.per_query]
    assert found.report["medium"].mAP > 99  # the boxes show the very objects
    assert found.report["easy"].without_positives == ("query3",)
    assert found.cropped is True
    whole = evaluate_images("roxford5k", root, encoder, crop=False)
    assert whole.cropped is False
    assert whole.report["medium"].mAP < found.report["medium"].mAP
    assert any("not cropped" in warning for warning in whole.warnings)
    assert "pictures" in whole.to_json()
    assert whole.to_json()["pictures"]["boxes"] == {}


def test_the_report_says_how(root: Path, encoder: Encoder) -> None:
    from PIL import Image

    Image.new("RGB", (9, 9)).save(root / "jpg" / "stranger.jpg")
    found = evaluate_images("roxford5k", root, encoder)
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert value["dataset"] == "roxford5k"
    assert (value["protocol"], value["cropped"]) == ("revisited", True)
    assert value["model"] == encoder.model.label
    assert value["identity"] == encoder.identity
    preprocessing = encoder.model.config.preprocessing
    assert value["settings"] == {
        "dim": encoder.dim,
        "bytes": 4 * encoder.dim,
        "scales": list(preprocessing.scales),
        "long_side": 96,
        "precision": "fp32",
    }
    assert value["ground_truth"]["published"] is False
    assert (value["data"]["images"], value["data"]["further_images"]) == (16, 1)
    assert value["data"]["release"].startswith("not verified")
    assert value["distractor_source"] is None
    assert any("38 of the 70 queries of ROxford" in warning for warning in value["warnings"])
    assert value["pictures"]["boxes"]["query0"] == [200.0, 150.0, 296.0, 214.0]
    assert Path(value["pictures"]["root"], value["pictures"]["paths"]["object0_0"]).is_file()
    assert len(value["per_query"]) == 4
    assert value["per_query"][0]["top"][0][0] in {"object0_0", "object0_1", "object0_2"}
    text = found.text()
    assert text.startswith("roxford5k: 4 queries against 12 images (percent)\n")
    for words in (
        "revisited, average precision by the rule trapezoid",
        "cropped to their boxes",
        encoder.model.label,
        f"{encoder.dim:,} numbers, {4 * encoder.dim:,} bytes each",
        "1 of at most 96 pixels",
        "all 16 named are there; 1 further",
        "not verified: no checksum of the original or of the face-blurred release is known",
        "warning: the ground truth is not the published one",
    ):
        assert words in text


def test_the_digest_follows_the_images(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    def digest(**options: Any) -> str:
        found = evaluate_images("roxford5k", root, encoder, **options)
        assert found.images is not None
        return str(found.images["digest"])

    first = digest()
    assert digest(out=tmp_path / "out") == first
    path = root / "jpg" / "object0_0.jpg"
    path.write_bytes((root / "jpg" / "object1_1.jpg").read_bytes())
    assert digest() != first


def test_a_kept_folder_goes_on_and_follows_the_boxes(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    straight = evaluate_images("roxford5k", root, encoder)
    for _ in range(2):
        kept = evaluate_images("roxford5k", root, encoder, out=out)
        assert [q.ap for q in kept.report.per_query] == [q.ap for q in straight.report.per_query]
    whole = evaluate_images("roxford5k", root, encoder, out=out, crop=False)
    assert whole.report["medium"].mAP < straight.report["medium"].mAP
    assert len(read_encoded(out / "encoded").catalog) == 16


def test_layouts_and_places_of_the_ground_truth(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    wanted = evaluate_images("roxford5k", root, encoder).report
    assert evaluate_images("roxford5k", root.parent, encoder).report == wanted  # the folder above
    moved = tmp_path / "elsewhere.pkl"
    (root / "gnd_roxford5k.pkl").rename(moved)
    with pytest.raises(EvaluationError, match=r"holds no gnd_roxford5k\.pkl") as caught:
        evaluate_images("roxford5k", root, encoder)
    assert "--ground-truth" in caught.value.mend
    assert evaluate_images("roxford5k", root, encoder, ground_truth=moved).report == wanted
    (root / "gnd_roxford5k.json").write_text(json.dumps(pickle.loads(moved.read_bytes())))
    assert evaluate_images("roxford5k", root, encoder).report == wanted


def test_distractors_as_folder_of_pictures_shards_and_array(
    root: Path, encoder: Encoder, tmp_path: Path
) -> None:
    make_distractors(tmp_path / "more")
    plain = evaluate_images("roxford5k", root, encoder)
    with pytest.raises(UsageError, match="holds pictures to encode"):
        evaluate_images("roxford5k", root, encoder, distractors=tmp_path / "more")
    out = tmp_path / "out"
    first = evaluate_images("roxford5k", root, encoder, distractors=tmp_path / "more", out=out)
    again = evaluate_images("roxford5k", root, encoder, distractors=tmp_path / "more", out=out)
    encode_catalog(read_catalog(tmp_path / "more"), encoder, tmp_path / "shards")
    shards = evaluate_images("roxford5k", root, encoder, distractors=tmp_path / "shards")
    np.save(tmp_path / "more.npy", read_encoded(tmp_path / "shards").descriptors)
    array = evaluate_images("roxford5k", root, encoder, distractors=tmp_path / "more.npy")
    assert first.report == again.report == shards.report == array.report
    assert first.report.distractors == 5
    assert plain.report.distractors == 0
    assert shards.distractors == {
        "count": 5,
        "source": str(tmp_path / "shards"),
        "model": encoder.model.label,
    }
    assert array.distractors is not None
    assert array.distractors["model"] is None
    assert "a model that is not known" in array.text()
    assert "12 images and 5 distractors" in array.text()


def test_distractors_that_do_not_fit(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    make_distractors(tmp_path / "more", 2)
    other = load_model(precision="fp32", long_side=128)
    encode_catalog(read_catalog(tmp_path / "more"), other, tmp_path / "shards")
    with pytest.raises(IdentityMismatch, match="was encoded with") as caught:
        evaluate_images("roxford5k", root, encoder, distractors=tmp_path / "shards")
    assert other.model.label in caught.value.what
    assert encoder.model.label in caught.value.what
    np.save(tmp_path / "more.npy", np.eye(7, dtype=np.float32))
    with pytest.raises(EvaluationError, match="has descriptors of 7 numbers"):
        evaluate_images("roxford5k", root, encoder, distractors=tmp_path / "more.npy")
    with pytest.raises(CatalogError, match="does not exist"):
        evaluate_images("roxford5k", root, encoder, distractors=tmp_path / "none")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(CatalogError, match="holds no pictures"):
        evaluate_images("roxford5k", root, encoder, distractors=tmp_path / "hollow", out=tmp_path / "out")


def test_unreadable_distractors_are_counted(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    make_distractors(tmp_path / "more", 3)
    (tmp_path / "more" / "d1.jpg").write_bytes(b"no picture")
    found = evaluate_images("roxford5k", root, encoder, distractors=tmp_path / "more", out=tmp_path / "out")
    assert found.report.distractors == 2
    assert [item.id for item, _ in found.skipped] == ["d1.jpg"]
    assert "distractors that could not be read and are missing: 1" in found.warnings
    for file in (tmp_path / "more").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match="None of the 3 distractors"):
        evaluate_images("roxford5k", root, encoder, distractors=tmp_path / "more", out=tmp_path / "out")


def test_unusable_rows_of_distractors_are_counted(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    make_distractors(tmp_path / "more", 3)
    (tmp_path / "more" / "some.csv").write_text("path,x_1,y_1,x_2,y_2\nd0.jpg,,,,\nd1.jpg,9,9,1,1\n")
    table = tmp_path / "more" / "some.csv"
    found = evaluate_images("roxford5k", root, encoder, distractors=table, out=tmp_path / "out")
    assert found.report.distractors == 1
    assert "rows of the distractors that cannot be used and are missing: 1" in found.warnings
    assert [row["file"] for row in found.to_json()["unusable_rows"]] == ["d1.jpg"]


def test_missing_images_are_counted_and_named(root: Path, encoder: Encoder) -> None:
    (root / "jpg" / "object1_0.jpg").unlink()
    with pytest.raises(EvaluationError, match="1 of the 16 images that the ground truth names") as caught:
        evaluate_images("roxford5k", root, encoder)
    assert str(root / "jpg" / "object1_0.jpg") in caught.value.what
    for file in (root / "jpg").iterdir():
        file.unlink()
    with pytest.raises(EvaluationError, match=r"16 of the 16 images .* and others") as caught:
        evaluate_images("roxford5k", root, encoder)
    assert "object0_0.jpg" in caught.value.what


@pytest.mark.parametrize("keep", [True, False])
def test_unreadable_images_are_an_error(root: Path, encoder: Encoder, tmp_path: Path, keep: bool) -> None:
    (root / "jpg" / "object1_0.jpg").write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match=r"1 of the 16 images .* cannot be read: .*object1_0"):
        evaluate_images("roxford5k", root, encoder, out=tmp_path / "out" if keep else None)


def test_a_box_beside_its_picture_is_named(root: Path, encoder: Encoder) -> None:
    file = root / "gnd_roxford5k.pkl"
    truth = pickle.loads(file.read_bytes())
    truth["gnd"][1]["bbx"] = [5000.0, 5000.0, 6000.0, 6000.0]
    file.write_bytes(pickle.dumps(truth, protocol=2))
    with pytest.raises(EvaluationError, match=r"Cannot cut .*query1\.jpg.* lies in the box"):
        evaluate_images("roxford5k", root, encoder)


def test_ground_truths_that_cannot_be_used(root: Path, encoder: Encoder) -> None:
    file = root / "gnd_roxford5k.pkl"
    truth = pickle.loads(file.read_bytes())

    def refused(error: type[Exception], match: str, **change: Any) -> None:
        file.write_bytes(pickle.dumps({**truth, **change}))
        with pytest.raises(error, match=match):
            evaluate_images("roxford5k", root, encoder)

    twice = [truth["imlist"][1], *truth["imlist"][1:]]
    refused(EvaluationError, "names 'object0_1' twice in imlist", imlist=twice)
    refused(EvaluationError, "a name or a box that cannot be used", imlist=["../../x", *truth["imlist"][1:]])
    boxes = [{**entry, "bbx": [5.0, 5.0, 1.0, 1.0]} for entry in truth["gnd"]]
    refused(EvaluationError, "a name or a box that cannot be used", gnd=boxes)
    unboxed = [{key: entry[key] for key in ("easy", "hard", "junk")} for entry in truth["gnd"]]
    refused(EvaluationError, "lacks the box of a query", gnd=unboxed)
    assert evaluate_images("roxford5k", root, encoder, crop=False).cropped is False
    file.write_bytes(pickle.dumps({**truth, "extra": Path("x")}))
    with pytest.raises(CatalogError, match="not a pickle of plain data"):
        evaluate_images("roxford5k", root, encoder)


def test_other_folders_and_names(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no benchmark 'oxford5k'"):
        evaluate_images("oxford5k", root, encoder)
    with pytest.raises(EvaluationError, match="is no folder"):
        evaluate_images("roxford5k", tmp_path / "none", encoder)
    with pytest.raises(EvaluationError, match=r"holds no gnd_rparis6k\.pkl"):
        evaluate_images("rparis6k", root, encoder)
    evaluate_images("roxford5k", root, encoder, out=tmp_path / "out")
    other = tmp_path / "second"
    make_miniature(other)
    with pytest.raises(EncodingError, match="was encoded from"):
        evaluate_images("roxford5k", other, encoder, out=tmp_path / "out")


def test_progress_names_each_stage(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    make_distractors(tmp_path / "more", 2)
    seen: dict[str, tuple[int, int]] = {}

    @contextmanager
    def progress(label: str):
        yield lambda done, total: seen.update({label: (done, total)})

    evaluate_images(
        "roxford5k",
        root,
        encoder,
        distractors=tmp_path / "more",
        out=tmp_path / "out",
        progress=progress,
    )
    assert seen == {"encoding": (16, 16), "encoding distractors": (2, 2), "ranking": (14, 14)}


def test_from_descriptor_files(root: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tables = {name: rng.standard_normal((rows, 6)) for name, rows in (("q", 4), ("x", 12), ("d", 7))}
    for name, table in tables.items():
        tables[name] = (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float16)
        np.save(tmp_path / f"{name}.npy", tables[name])
    truth = root / "gnd_roxford5k.pkl"
    files = (tmp_path / "q.npy", tmp_path / "x.npy", truth)
    found = evaluate_files(*files, distractors=tmp_path / "d.npy")
    assert found.report == revisited(tables["q"], tables["x"], truth, distractors=tables["d"])
    assert found.dataset is None
    assert found.settings == {"dim": 6, "bytes": 12}
    assert found.cropped is None
    assert found.to_json()["data"] is None
    text = found.text()
    assert text.startswith("a ground truth of neither roxford5k nor rparis6k: 4 queries")
    assert "cropping not known" in text
    assert "not known from descriptors" in text
    assert evaluate_files(*files, cropped=False).protocol == "revisited, queries not cropped"
    named = evaluate_files(*files, dataset="rparis6k")
    assert any("36 of the 70 queries of RParis" in warning for warning in named.warnings)
    np.save(tmp_path / "x.npy", 3 * tables["x"])
    with pytest.raises(EvaluationError, match="has length 3"):
        evaluate_files(*files)
    scaled = evaluate_files(*files, normalise=True)
    assert scaled.report["medium"].mAP == pytest.approx(named.report["medium"].mAP)


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_the_published_ground_truth_is_recognised(name: str, tmp_path: Path) -> None:
    file = GOLDEN / f"gnd_{name}.pkl"
    if not file.exists():
        pytest.skip("the published ground truth (shared/golden beside the repository) is not here")
    plain = pickle.loads(file.read_bytes())
    truth = read_truth(plain)
    known = BENCHMARKS[name]
    assert truth_digest(truth, plain) == known.digest
    assert (len(truth.database), len(truth.queries)) == (known.images, known.queries)
    rng = np.random.default_rng(0)
    for side, rows in (("q", known.queries), ("x", known.images)):
        table = rng.standard_normal((rows, 4)).astype(np.float32)
        np.save(tmp_path / f"{side}.npy", table / np.linalg.norm(table, axis=1, keepdims=True))
    files = (tmp_path / "q.npy", tmp_path / "x.npy")
    found = evaluate_files(*files, file)
    assert found.dataset == name
    assert found.ground_truth["published"] is True
    assert not any("not the published" in warning for warning in found.warnings)
    other = next(one for one in BENCHMARKS if one != name)
    with pytest.raises(UsageError, match=f"is the ground truth of {name}, not of {other}"):
        evaluate_files(*files, file, dataset=other)
    plain["gnd"][0]["bbx"][0] += 1
    assert truth_digest(truth, plain) != known.digest
