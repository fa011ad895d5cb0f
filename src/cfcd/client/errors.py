"""What a service, or the way to it, answers instead."""

from __future__ import annotations

from cfcd.errors import CfcdError


class ServiceError(CfcdError):
    """Report what a service said went wrong, or that it could not be asked.

    Args:
        what: One sentence, the service's own.
        mend: Likewise.
        code: Such as unknown_item or picture_too_large; unreachable if the service was not reached.
        status: Of HTTP; 0 if the service was not reached.
    """

    def __init__(self, what: str, mend: str, code: str = "", status: int = 0) -> None:
        super().__init__(what, mend)
        self.code = code
        self.status = status
