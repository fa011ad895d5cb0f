"""One exception tree: every error says what went wrong and where, and how to mend it."""

from __future__ import annotations


class CfcdError(Exception):
    """Say what went wrong and where (file, row, option), and how to mend it.

    Args:
        what: One sentence that names the thing and its place.
        mend: One sentence that tells the reader what to do next.
    """

    exit_code = 1

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what, mend)
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.what} {self.mend}"


class UsageError(CfcdError):
    """Report an option or argument that cannot be what the user meant."""

    exit_code = 2


class Interrupted(CfcdError):
    """Report that the user stopped a command; what was done until then is kept."""

    exit_code = 130


class CatalogError(CfcdError):
    """Report a catalog that cannot be read at all; bad rows are problems, not errors."""


class PictureError(CfcdError):
    """Report a picture that cannot be turned into pixels."""


class UnreadablePicture(PictureError):
    """Report a file that is missing, empty, or in no format that can be decoded."""


class TruncatedPicture(PictureError):
    """Report a file whose end is missing."""


class PictureTooLarge(PictureError):
    """Report a picture over the byte or pixel limit, found before its pixels are decoded."""


class ModelError(CfcdError):
    """Report a model that cannot be found, loaded or saved."""


class MissingExtra(CfcdError):
    """Report that a feature needs packages that the light install leaves out."""


class EncodingError(CfcdError):
    """Report an encoded folder that is damaged or was made in another way than asked now."""


class GalleryError(CfcdError):
    """Report a gallery that cannot be opened, read or written."""


class BusyError(CfcdError):
    """Report that another process is writing where this one wants to."""


class IdentityMismatch(GalleryError):
    """Report descriptors of two models about to be mixed; the message names both."""


class EvaluationError(CfcdError):
    """Report data on which the asked-for measure is not defined."""


class TrainingError(CfcdError):
    """Report training data or options that cannot work."""
