from __future__ import annotations

from pathlib import Path

import pytest

from cfcd.errors import UsageError
from cfcd.gallery.milvus.address import MilvusAddress, is_milvus


def test_an_address_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
    address = MilvusAddress.parse("milvus://db.example:1234/photos")
    assert (address.uri, address.database, address.collection) == ("http://db.example:1234", "", "photos")
    assert str(address) == "milvus://db.example:1234/photos"
    assert address.token == ""
    address = MilvusAddress.parse("milvus+tls://[::1]/museum/photos")
    assert (address.uri, address.database, address.collection) == ("https://[::1]:19530", "museum", "photos")
    assert str(address) == "milvus+tls://[::1]:19530/museum/photos"


def test_credentials_are_read_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILVUS_TOKEN", "an:other")
    address = MilvusAddress.parse("milvus://us%40er:pass%2Fword@host/photos")
    assert address.token == "us@er:pass/word"
    assert "pass" not in str(address) + repr(address) + address.uri
    assert MilvusAddress.parse("milvus://key@host/photos").token == "key"
    assert MilvusAddress.parse("milvus://host/photos").token == "an:other"
    assert "other" not in repr(MilvusAddress.parse("milvus://host/photos"))


def test_an_address_survives_being_taken_for_a_path() -> None:
    place = Path("milvus://host:1/photos")
    assert is_milvus(place)
    assert str(MilvusAddress.parse(place)) == "milvus://host:1/photos"


@pytest.mark.parametrize("place", ["gallery", "milvus", "milvus/photos", "/milvus://x", "http://host/photos"])
def test_folders_are_no_addresses(place: str) -> None:
    assert not is_milvus(place)


@pytest.mark.parametrize(
    "place",
    [
        "milvus://host",
        "milvus://host/",
        "milvus://:pw@/photos",
        "milvus://me:hidden@host:port/photos",
        "milvus://me:hidden@host:99999/photos",
        "milvus://host/a/b/c",
        "milvus://host/1photos",
        "milvus://host/photos?drop=1",
        "milvus://host/pho-tos",
        "gallery",
    ],
)
def test_what_is_no_address_is_refused(place: str) -> None:
    with pytest.raises(UsageError) as caught:
        MilvusAddress.parse(place)
    assert "hidden" not in str(caught.value)
