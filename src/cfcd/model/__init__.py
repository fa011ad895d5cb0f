"""Networks that turn pictures into descriptors, and the folders they are kept in.

Names are loaded on first use: reading a model folder needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cfcd.model.extras import need

if TYPE_CHECKING:
    from cfcd.model.config import ModelConfig, Network, Preprocessing, Whitening
    from cfcd.model.create import NewModel, create_model
    from cfcd.model.folder import ModelFolder, find_model, save_model
    from cfcd.model.network import DescriptorNet, PixelsToDescriptor

_HOMES = {
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
}

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


def __getattr__(name: str) -> Any:
    """Load a public name from the file it lives in, on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cfcd.model' has no attribute {name!r}")
    if _HOMES[name] == "network":
        need("torch", name)
    return getattr(import_module(f"cfcd.model.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
