"""Packages that the light install leaves out."""

from __future__ import annotations

from importlib.util import find_spec

from cfcd.errors import MissingExtra


def need(package: str, purpose: str) -> None:
    """Raise MissingExtra when a package of the extra "train" is not installed.

    Args:
        package: Name it is imported by.
        purpose: What it is for, as the start of the message: "Saving a model".
    """
    if find_spec(package) is None:
        what = f"{purpose} needs the package {package.replace('_', '-')}, which the light install leaves out."
        raise MissingExtra(what, 'Install it with `pip install "cfcd[train]"`.')
