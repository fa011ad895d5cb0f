"""Let a reader that meets damage mend the gallery and go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from cfcd.gallery.truth.changes import DamagedStore

_Method = TypeVar("_Method", bound=Callable[..., Any])


def healing(method: _Method) -> _Method:
    """Call a method of a gallery again when what it read was damaged: the second time begins with mending."""

    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options)
        except DamagedStore:
            return method(*arguments, **options)

    return cast(_Method, call)
