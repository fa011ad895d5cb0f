"""`cfcd compact`: free what changes have left in a gallery's files."""

from __future__ import annotations

from cfcd.cli.options import GalleryFolder, Json


def compact(gallery: GalleryFolder, as_json: Json = False) -> None:
    """Write a gallery's files anew without what was changed or removed; every row's checksum is compared.

    Needs free space of about twice the gallery's size while it runs; searches go on meanwhile.

    \b
    cfcd compact gallery/
    """
    from cfcd.cli.output import emit
    from cfcd.gallery import open_gallery

    with open_gallery(gallery) as opened:
        freed = opened.compact()
        text = f"{len(opened):,} items in {opened.name}; freed {freed / 1e6:,.1f} MB"
        emit({"items": len(opened), "freed_bytes": freed}, text, as_json)
