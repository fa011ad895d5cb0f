from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cfcd.catalog import read_catalog
from cfcd.encoding import Encoder, encode_catalog, load_model, read_encoded
from cfcd.errors import BusyError, GalleryError, IdentityMismatch, ModelError, PictureError, UsageError
from cfcd.gallery import Gallery, open_gallery, open_or_create
from cfcd.lock import only_writer
from tests.support import make_photo


def test_search_equals_the_slow_way(gallery: Gallery, photos: Path, encoder: Encoder) -> None:
    catalog = read_catalog(photos)
    vectors = encoder.encode([item.path for item in catalog])
    query = make_photo(1, (90, 70))
    scores = vectors @ encoder.encode(query)[0]
    order = np.argsort(-scores, kind="stable")
    hits = gallery.search(query, k=5)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert [hit.score for hit in hits] == pytest.approx(scores[order[:5]], abs=2e-3)
    assert {hit.id for hit in hits[:4]} == {catalog.ids[i] for i in order[:4]}
    assert hits[0].item.label == "bridge"
    assert hits[0].item.path == photos / hits[0].id
    assert hits[0].verdict is None


def test_more_hits_than_items(gallery: Gallery) -> None:
    assert len(gallery.search(make_photo(0), k=100)) == 12


def test_search_by_id_leaves_the_item_out(gallery: Gallery) -> None:
    hits = gallery.search_id("arch/2.jpg", k=3)
    assert {hit.id for hit in hits} == {"arch/0.jpg", "arch/1.jpg", "arch/3.jpg"}
    with pytest.raises(GalleryError, match="nothing"):
        gallery.search_id("nothing")


def test_search_by_vector_of_any_length(gallery: Gallery, encoder: Encoder, photos: Path) -> None:
    vector = encoder.encode(photos / "church" / "0.jpg")[0]
    assert gallery.search_vector(vector * 7)[0].id == "church/0.jpg"


@pytest.mark.parametrize("vector", [np.zeros(1280), np.full(1280, np.nan), np.ones(3), np.ones((1, 1280))])
def test_bad_vectors_are_refused(gallery: Gallery, vector: np.ndarray) -> None:
    with pytest.raises(UsageError, match="vector"):
        gallery.search_vector(vector)


def test_search_by_box_is_search_with_the_crop(gallery: Gallery, photos: Path) -> None:
    from PIL import Image

    scene = Image.new("RGB", (300, 200), "grey")
    scene.paste(Image.open(photos / "bridge" / "3.jpg"), (100, 50))
    boxed = gallery.search(scene, k=1, box=(100, 50, 196, 114))
    assert boxed[0].id == "bridge/3.jpg"
    assert boxed[0].score > 0.99
    assert gallery.search(scene, k=1)[0].score < boxed[0].score


def test_bad_queries(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(PictureError):
        gallery.search(tmp_path / "absent.jpg")
    with pytest.raises(UsageError, match="k is 0"):
        gallery.search(make_photo(0), k=0)


def test_an_empty_gallery_has_no_hits(tmp_path: Path, encoder: Encoder) -> None:
    with Gallery.create(tmp_path / "empty", encoder) as gallery:
        assert gallery.search(make_photo(0)) == []
        assert len(gallery) == 0


def test_remove(gallery: Gallery) -> None:
    assert gallery.remove(["arch/0.jpg", "nothing", "arch/0.jpg"]) == ["nothing"]
    assert len(gallery) == 11
    assert "arch/0.jpg" not in {hit.id for hit in gallery.search(make_photo(0), k=100)}


def test_a_reader_sees_what_another_connection_wrote(gallery: Gallery, encoder: Encoder) -> None:
    with Gallery(gallery.folder, encoder) as reader:
        assert len(reader.search(make_photo(0), k=100)) == 12
        gallery.remove(["arch/0.jpg", "bridge/1.jpg"])
        assert len(reader.search(make_photo(0), k=100)) == 10


def test_another_identity_is_refused_by_both_names(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    other = load_model(long_side=64)
    with pytest.raises(IdentityMismatch) as caught:
        Gallery(gallery.folder, other)
    assert gallery.model_label in str(caught.value)
    assert other.model.label in str(caught.value)
    encode_catalog(read_catalog(photos), other, tmp_path / "encoded")
    with pytest.raises(IdentityMismatch, match=gallery.model_label):
        gallery.update(read_encoded(tmp_path / "encoded"))


def test_it_opens_with_its_own_size_and_scales(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "g"
    with open_or_create(folder, long_side=96, scales=(1.0, 0.7071), precision="fp32") as made:
        made.update(read_catalog(photos))
    with open_gallery(folder) as plain, open_gallery(folder, "imagenet-lite0") as named:
        for opened in (plain, named):
            assert opened.encoder.model.config.preprocessing.long_side == 96
            assert opened.encoder.model.config.preprocessing.scales == (1.0, 0.7071)
    with open_or_create(folder) as again:
        assert again.update(read_catalog(photos)).unchanged == 12
    with pytest.raises(IdentityMismatch):
        open_gallery(folder, long_side=128)


def test_an_encoded_folder_fills_a_gallery_without_its_pictures(
    photos: Path, tmp_path: Path, encoder: Encoder
) -> None:
    encode_catalog(read_catalog(photos), encoder, tmp_path / "encoded")
    photos.rename(tmp_path / "elsewhere")
    encoded = read_encoded(tmp_path / "encoded")
    with open_or_create(tmp_path / "g", encoded=encoded) as gallery:
        assert gallery.update(encoded).added == 12
        assert gallery.update(encoded).unchanged == 12
        assert gallery.search_id("arch/0.jpg", 1)[0].id.startswith("arch")


def test_pictures_encoded_before_are_not_encoded_again(
    photos: Path, tmp_path: Path, encoder: Encoder
) -> None:
    encode_catalog(read_catalog(photos), encoder, tmp_path / "encoded")
    encoded = read_encoded(tmp_path / "encoded")
    with open_or_create(tmp_path / "g", encoded=encoded) as gallery:
        gallery.update(encoded)
        assert gallery.update(read_catalog(photos)).unchanged == 12


def test_contents_give_the_catalog_and_unit_rows(gallery: Gallery, photos: Path, encoder: Encoder) -> None:
    catalog, descriptors = gallery.contents()
    expected = read_catalog(photos)
    assert list(catalog.ids) == list(expected.ids)
    assert list(catalog.labels or ()) == list(expected.labels or ())
    assert np.allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-6)
    assert np.allclose(descriptors, encoder.encode([item.path for item in expected]), atol=1e-3)


def test_info(gallery: Gallery, photos: Path) -> None:
    info = gallery.info()
    assert (info["items"], info["labels"], info["dim"]) == (12, 3, 1280)
    assert info["sources"] == {str(photos): 12}
    assert info["bytes"] > 12 * 1280 * 2


def test_no_gallery(tmp_path: Path, photos: Path, encoder: Encoder) -> None:
    with pytest.raises(GalleryError, match="no gallery"):
        Gallery(tmp_path / "absent")
    with pytest.raises(GalleryError, match="not empty"):
        Gallery.create(photos, encoder)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "gallery.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(GalleryError, match="cannot be read"):
        Gallery(tmp_path / "odd")


def test_two_writers_are_refused(gallery: Gallery, photos: Path) -> None:
    with only_writer(gallery.folder), pytest.raises(BusyError, match="Another process"):
        gallery.update(read_catalog(photos))
    with only_writer(gallery.folder):
        assert len(gallery.search(make_photo(0))) == 10


def test_a_model_that_is_gone_is_named(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from cfcd.model import create_model

    create_model("efficientnet_lite0").save(tmp_path / "model", name="mine")
    with open_or_create(tmp_path / "g", tmp_path / "model") as gallery:
        gallery.update(read_catalog(photos))
    (tmp_path / "model").rename(tmp_path / "moved")
    with Gallery(tmp_path / "g") as gallery, pytest.raises(ModelError, match="mine@"):
        gallery.search(make_photo(0))
    with open_gallery(tmp_path / "g", tmp_path / "moved") as gallery:
        assert gallery.search(make_photo(0), 1)[0].item.label == "arch"
