"""Networks that turn pictures into descriptors, and the folders they are kept in.

Names are loaded on first use: reading a model folder needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfcd.lazy import lazy_names
from cfcd.model.extras import need

if TYPE_CHECKING:
    from cfcd.model.config import ModelConfig, Network, Preprocessing, Whitening
    from cfcd.model.create import NewModel, create_model
    from cfcd.model.folder import ModelFolder, find_model, save_model
    from cfcd.model.network import DescriptorNet, PixelsToDescriptor

__all__ = [
    "DescriptorNet",
    "ModelConfig",
    "ModelFolder",
    "Network",
    "NewModel",
    "PixelsToDescriptor",
    "Preprocessing",
    "Whitening",
    "create_model",
    "find_model",
    "save_model",
]


def _check_torch(name: str) -> None:
    if name in {"DescriptorNet", "PixelsToDescriptor"}:
        need("torch", name)


__getattr__ = lazy_names(
    __name__,
    {
        "ModelConfig": "config",
        "Network": "config",
        "Preprocessing": "config",
        "Whitening": "config",
        "NewModel": "create",
        "create_model": "create",
        "ModelFolder": "folder",
        "find_model": "folder",
        "save_model": "folder",
        "DescriptorNet": "network",
        "PixelsToDescriptor": "network",
    },
    before=_check_torch,
)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
