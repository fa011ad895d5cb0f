"""Turn any picture file a user has into upright RGB pixels, or say in one sentence why not."""

from __future__ import annotations

from cfcd.pictures.loading import load_picture, picture_size
from cfcd.pictures.pixels import rescaled
from cfcd.pictures.sources import IMAGE_SUFFIXES, PictureLimits, PictureSource

__all__ = ["IMAGE_SUFFIXES", "PictureLimits", "PictureSource", "load_picture", "picture_size", "rescaled"]
