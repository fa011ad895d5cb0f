"""Write the files of a model folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cfcd.model.card import model_card
from cfcd.model.config import ModelConfig
from cfcd.model.extras import need
from cfcd.model.folder import CARD, CONFIG, HEAD, ONNX, WEIGHTS

if TYPE_CHECKING:
    import torch

    from cfcd.model.network import DescriptorNet


def write_model(
    net: DescriptorNet, folder: Path, config: ModelConfig, head: torch.Tensor | None = None
) -> None:
    """Write config.json, model.safetensors, model.onnx and README.md into an empty folder.

    Args:
        net: The network; its mode is left as it was.
        folder: Exists and is empty.
        config: What to write; its `files` are filled in here.
        head: (classes, D), written as head.safetensors, or None.

    Raises:
        ModelError: The ONNX file disagrees with the network.
        MissingExtra: safetensors or onnx is not installed.
    """
    need("safetensors", "Saving a model")
    from safetensors.torch import save

    from cfcd.model.export import parity, to_onnx
    from cfcd.model.network import PixelsToDescriptor

    training = net.training
    model = PixelsToDescriptor(net, config.preprocessing).eval()
    try:
        exported = to_onnx(model)
        cosine = parity(model, exported)
    finally:
        net.train(training)
    tensors = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    contents = {WEIGHTS: save(tensors), ONNX: exported}
    if head is not None:
        contents[HEAD] = save({"weight": head.detach().cpu().contiguous()})
    write_files(folder, config, contents, cosine)


def write_files(
    folder: Path,
    config: ModelConfig,
    contents: dict[str, bytes],
    cosine: float,
    *,
    sections: str = "",
    reference: str = "",
) -> ModelConfig:
    """Write the given files with the configuration and card that describe them.

    Args:
        folder: Exists; files of these names are replaced.
        config: Its `files` are filled in here.
        contents: File name -> bytes.
        cosine: Smallest cosine between ONNX and torch, for the card.
        sections: Markdown to add to the card.
        reference: What to give `load_model` in the card's example; the folder when empty.

    Returns:
        The configuration as written.
    """
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    config = replace(config, files=digests)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / CARD).write_text(model_card(config, cosine, sections, reference), encoding="utf-8")
    text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    return config
