"""Find this very building, product or artwork in a large image collection.

Names are loaded on first use: `import cfcd` itself loads no numerical library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfcd.lazy import lazy_names

if TYPE_CHECKING:
    from cfcd.catalog import Catalog, read_catalog
    from cfcd.check import check_catalog
    from cfcd.client import Client
    from cfcd.encoding import Encoder, load_model
    from cfcd.errors import CfcdError
    from cfcd.evaluation import evaluate
    from cfcd.explaining import Explainer, Explanation, explain
    from cfcd.gallery import Gallery, Hit, open_or_create
    from cfcd.model import create_model
    from cfcd.training import train

__version__ = "0.1.0.dev0"

__all__ = [
    "Catalog",
    "CfcdError",
    "Client",
    "Encoder",
    "Explainer",
    "Explanation",
    "Gallery",
    "Hit",
    "__version__",
    "check_catalog",
    "create_model",
    "evaluate",
    "explain",
    "load_model",
    "open_or_create",
    "read_catalog",
    "train",
]


__getattr__ = lazy_names(
    __name__,
    {
        "Catalog": "catalog",
        "read_catalog": "catalog",
        "check_catalog": "check",
        "Client": "client",
        "Encoder": "encoding",
        "load_model": "encoding",
        "CfcdError": "errors",
        "evaluate": "evaluation",
        "Explainer": "explaining",
        "Explanation": "explaining",
        "explain": "explaining",
        "Gallery": "gallery",
        "Hit": "gallery",
        "open_or_create": "gallery",
        "create_model": "model",
        "train": "training",
    },
)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
