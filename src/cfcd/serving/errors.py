"""What can go wrong when a gallery is served, beside the errors of its parts, and the HTTP status of each."""

from __future__ import annotations

import re

from cfcd.errors import (
    BusyError,
    CfcdError,
    GalleryError,
    PictureError,
    PictureTooLarge,
    UsageError,
)


class UnknownItem(GalleryError):
    """Report an id that no item of the gallery has."""


class ItemExists(GalleryError):
    """Report an id that an item of the gallery has already."""


class PictureMissing(GalleryError):
    """Report an item whose picture file cannot be read any more."""


class NotReady(CfcdError):
    """Report a service whose gallery or model is still being loaded, or could not be."""


class Overloaded(CfcdError):
    """Report that too many requests wait already."""


class WritesOff(CfcdError):
    """Report a change asked of a service that was started without a token."""


class NoToken(CfcdError):
    """Report a change asked for without the token, or with a wrong one."""


class BodyTooLarge(CfcdError):
    """Report a request with more bytes than the service reads."""


class SlowBody(CfcdError):
    """Report a request whose bytes came too slowly."""


class WrongMediaType(CfcdError):
    """Report a request whose body is of another kind than its route takes."""


class ForeignHost(CfcdError):
    """Report a request to a name that is not this service's."""


class ForeignOrigin(CfcdError):
    """Report a change or search that another site's page asked for."""


# The first class that fits decides.
_STATUS: tuple[tuple[type[CfcdError], int], ...] = (
    (UnknownItem, 404),
    (PictureMissing, 404),
    (ItemExists, 409),
    (NotReady, 503),
    (Overloaded, 503),
    (BusyError, 503),
    (WritesOff, 403),
    (NoToken, 401),
    (BodyTooLarge, 413),
    (SlowBody, 408),
    (WrongMediaType, 415),
    (ForeignHost, 421),
    (ForeignOrigin, 403),
    (PictureTooLarge, 413),
    (PictureError, 400),
    (UsageError, 400),
)


def status_of(error: CfcdError) -> int | None:
    """Give the HTTP status of an error; None for one that is the service's own fault."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), None)


def code_of(error: CfcdError) -> str:
    """Name an error in snake_case: PictureTooLarge is picture_too_large, UsageError is usage_error."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
