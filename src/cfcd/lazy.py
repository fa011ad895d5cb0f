"""Names of a package that are loaded on first use, so that importing it stays cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str], before: Callable[[str], None] | None = None
) -> Callable[[str], Any]:
    """Make a package's `__getattr__`.

    Args:
        package: The package's `__name__`.
        homes: Public name -> the module below the package that it lives in.
        before: Called with a name before it is loaded, to refuse what cannot work here.

    Returns:
        A function that loads a public name, and raises AttributeError for any other.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if before is not None:
            before(name)
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return get
