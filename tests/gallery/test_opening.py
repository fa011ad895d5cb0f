"""Places as they are shown."""

from __future__ import annotations

from cfcd.gallery.opening import name_of


def test_no_name_tells_a_password() -> None:
    assert name_of("milvus://user:secret@host:19530/photos") == "milvus://host:19530/photos"
    assert name_of("photos/gallery") == "photos/gallery"
