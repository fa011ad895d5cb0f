"""The embedded demo collection: real photographs from installed packages, seen from simulated viewpoints."""

from __future__ import annotations

from cfcd.demo.collection import CollectionSummary, build_collection
from cfcd.demo.sources import Photo, find_photos, open_photo
from cfcd.demo.views import ViewSettings, simulate_view

__all__ = [
    "CollectionSummary",
    "Photo",
    "ViewSettings",
    "build_collection",
    "find_photos",
    "open_photo",
    "simulate_view",
]
