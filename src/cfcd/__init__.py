"""Find this very building, product or artwork in a large image collection.

Names are loaded on first use: `import cfcd` itself loads no numerical library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfcd.catalog import Catalog, read_catalog
    from cfcd.check import check_catalog
    from cfcd.encoding import Encoder, load_model
    from cfcd.errors import CfcdError
    from cfcd.evaluation import evaluate
    from cfcd.gallery import Gallery, Hit, open_or_create
    from cfcd.model import create_model

__version__ = "0.1.0.dev0"

_HOMES = {
    "Catalog": "cfcd.catalog",
    "read_catalog": "cfcd.catalog",
    "check_catalog": "cfcd.check",
    "Encoder": "cfcd.encoding",
    "load_model": "cfcd.encoding",
    "CfcdError": "cfcd.errors",
    "evaluate": "cfcd.evaluation",
    "Gallery": "cfcd.gallery",
    "Hit": "cfcd.gallery",
    "open_or_create": "cfcd.gallery",
    "create_model": "cfcd.model",
}

__all__ = [
    "Catalog",
    "CfcdError",
    "Encoder",
    "Gallery",
    "Hit",
    "__version__",
    "check_catalog",
    "create_model",
    "evaluate",
    "load_model",
    "open_or_create",
    "read_catalog",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the room it lives in, on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cfcd' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
