"""Open a gallery by folder and model name, or make it on first use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cfcd.encoding.encoder import Encoder, Reading, adjust_model
from cfcd.encoding.shards import Encoded
from cfcd.gallery.gallery import Gallery
from cfcd.gallery.milvus.address import MilvusAddress, is_milvus
from cfcd.model import find_model

DEFAULT_MODEL = "imagenet-lite0"


def gallery_class(place: str | Path) -> type[Gallery]:
    """Tell what a gallery at this place is: `Gallery` for a folder, `MilvusGallery` for milvus://..."""
    if not is_milvus(place):
        return Gallery
    from cfcd.gallery.milvus.gallery import MilvusGallery

    return MilvusGallery


def is_gallery(place: str | Path) -> bool:
    """Tell whether a place is a gallery's folder, or written as the address of one on a server."""
    return is_milvus(place) or Gallery.exists(place)


def name_of(place: str | Path) -> str:
    """Give a place as it may be shown: the address of a server without its password."""
    if not is_milvus(place):
        return str(place)
    return str(MilvusAddress.parse(place))


def open_gallery(
    folder: str | Path,
    model: str | Path | None = None,
    *,
    long_side: int | None = None,
    scales: Sequence[float] | None = None,
    device: str = "auto",
    precision: str = "auto",
    reading: Reading | None = None,
) -> Gallery:
    """Open a gallery with the model it was made with, or with a named one of the same identity.

    Size and scales that are not given are the gallery's own.

    Raises:
        GalleryError: The folder holds no gallery.
        IdentityMismatch: The model or the options make other descriptors.
    """
    gallery = gallery_class(folder)(folder, device=device, precision=precision, reading=reading)
    if model is None and long_side is None and scales is None:
        return gallery
    try:
        chosen = gallery.stored_model() if model is None else find_model(model)
        chosen = gallery.with_its_preprocessing(chosen)
        chosen = adjust_model(chosen, long_side, scales)
        gallery.use(Encoder(chosen, device, precision, reading))
    except BaseException:
        gallery.close()
        raise
    return gallery


def open_or_create(
    folder: str | Path,
    model: str | Path | None = None,
    *,
    encoded: Encoded | None = None,
    long_side: int | None = None,
    scales: Sequence[float] | None = None,
    device: str = "auto",
    precision: str = "auto",
    reading: Reading | None = None,
) -> Gallery:
    """Open a gallery, or make an empty one where there is none.

    Args:
        folder: The gallery.
        model: A built-in name or a model folder; by default the gallery's, then that of `encoded`, then
            the built-in one.
        encoded: An encoded folder that the gallery is to hold.
        long_side: Limit of the long side in pixels, instead of the model's own.
        scales: Scales to average, instead of the model's own.
        device: As for `load_model`.
        precision: As for `load_model`.
        reading: How pictures are read.
    """
    kind = gallery_class(folder)
    if not kind.exists(folder):
        if model is None and encoded is not None:
            chosen = encoded.model()
        else:
            chosen = find_model(model or DEFAULT_MODEL)
        encoder = Encoder(adjust_model(chosen, long_side, scales), device, precision, reading)
        return kind.create(folder, encoder)
    return open_gallery(
        folder,
        model,
        long_side=long_side,
        scales=scales,
        device=device,
        precision=precision,
        reading=reading,
    )
