"""Ask a served gallery (`cfcd serve`) from Python."""

from cfcd.client.answers import Explained, FoundHit, GalleryAnswer, Line, Page, SearchAnswer, ServedItem, Side
from cfcd.client.client import Client
from cfcd.client.errors import ServiceError

__all__ = [
    "Client",
    "Explained",
    "FoundHit",
    "GalleryAnswer",
    "Line",
    "Page",
    "SearchAnswer",
    "ServedItem",
    "ServiceError",
    "Side",
]
