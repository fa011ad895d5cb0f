"""Let a reader that meets damage mend the gallery and go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from cfcd.gallery.changes import DamagedStore

_Self = TypeVar("_Self")
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Method = Callable[Concatenate[_Self, _Parameters], _Result]


def healing(
    method: _Method[_Self, _Parameters, _Result],
) -> _Method[_Self, _Parameters, _Result]:
    """Call a method of a gallery again when what it read was damaged: the second time begins with mending."""

    @wraps(method)
    def call(self: _Self, *arguments: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        try:
            return method(self, *arguments, **options)
        except DamagedStore:
            return method(self, *arguments, **options)

    return call
