"""Descriptors, items and a search index in one folder, bound to one model identity."""

from cfcd.gallery.calibration.measuring import calibrate
from cfcd.gallery.gallery import Gallery
from cfcd.gallery.hit import Hit
from cfcd.gallery.indexes.choice import Choice
from cfcd.gallery.opening import open_gallery, open_or_create
from cfcd.gallery.query import combine
from cfcd.gallery.selection import Selection
from cfcd.gallery.update import UpdateSummary

__all__ = [
    "Choice",
    "Gallery",
    "Hit",
    "Selection",
    "UpdateSummary",
    "calibrate",
    "combine",
    "open_gallery",
    "open_or_create",
]
