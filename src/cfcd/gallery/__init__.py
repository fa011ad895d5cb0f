"""Descriptors, items and a search index in one folder, bound to one model identity."""

from cfcd.gallery.gallery import Gallery
from cfcd.gallery.hit import Hit
from cfcd.gallery.opening import open_gallery, open_or_create
from cfcd.gallery.update import UpdateSummary

__all__ = ["Gallery", "Hit", "UpdateSummary", "open_gallery", "open_or_create"]
