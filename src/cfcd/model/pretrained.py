"""Backbones with weights from a transformers folder or hub name: safetensors only, nothing left to chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cfcd.errors import ModelError
from cfcd.model.backbones import (
    CHOOSE,
    TransformersBackbone,
    class_options,
    clean_config,
    model_classes,
    parse_config,
)
from cfcd.model.config import IMAGENET_MEAN, IMAGENET_STD
from cfcd.model.extras import need

_RESAMPLE = {1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Pillow's numbers


@dataclass(frozen=True)
class Source:
    """Hold what a transformers folder or hub name says about a backbone.

    Args:
        ref: The folder or name.
        config: Cleaned transformers configuration, "architectures" as given there.
        colours: Values for Preprocessing: mean, std (0..255) and resize, from its preprocessor_config.json;
            ImageNet's where there is none.
    """

    ref: str
    config: dict[str, Any]
    colours: dict[str, Any]


def open_source(ref: str | Path) -> Source:
    """Read the configuration of a transformers folder or hub name.

    Raises:
        ModelError: It is neither, or not a model of transformers.
        MissingExtra: transformers is not installed.
    """
    need("transformers", "A transformers backbone")
    from transformers import AutoConfig

    options = _options(ref)
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(str(ref), **options)
        except Exception as error:  # the hub client raises many kinds
            raise _unavailable(ref, error) from error
    values: dict[str, Any] = config.to_dict()
    return Source(str(ref), clean_config(values), _colours(ref, options))


def random_backbone(source: Source) -> tuple[TransformersBackbone, dict[str, Any]]:
    """Build a source's network with random weights.

    Returns:
        The backbone and the configuration to store.
    """
    config = parse_config(source.config)
    kind = model_classes(config)[0]
    backbone = TransformersBackbone(kind(config, **class_options(kind)))
    _check_map(backbone, source.ref)
    return backbone, {**source.config, "architectures": [kind.__name__]}


def load_backbone(source: Source) -> tuple[TransformersBackbone, dict[str, Any], list[str]]:
    """Load a source's network with its weights.

    Of the classes that give a last map, the first that finds all its tensors is taken: backbone classes may
    have layers after the last stage that the published weights lack.

    Returns:
        The backbone, the configuration to store, and the tensors of the source that have no place in it.

    Raises:
        ModelError: There are no safetensors, or tensors are missing.
    """
    config = parse_config(source.config)
    missing: list[str] = []
    for kind in model_classes(config):
        with _quiet():
            try:
                model, report = kind.from_pretrained(  # type: ignore[attr-defined]
                    source.ref,
                    config=parse_config(source.config),
                    use_safetensors=True,
                    dtype=torch.float32,
                    output_loading_info=True,
                    **class_options(kind),
                    **_options(source.ref),
                )
            except Exception as error:  # the hub client and the loader raise many kinds
                raise _unavailable(source.ref, error) from error
        missing = sorted(report["missing_keys"])
        if not missing:
            backbone = TransformersBackbone(model)
            _check_map(backbone, source.ref)
            stored = {**source.config, "architectures": [kind.__name__]}
            return backbone, stored, sorted(report["unexpected_keys"])
    what = f"The weights of {source.ref} lack {len(missing)} tensors of the backbone, such as {missing[0]}."
    raise ModelError(what, "Give a model whose weights are complete; nothing is filled in at random.")


def _check_map(backbone: TransformersBackbone, ref: str) -> None:
    """Raise ModelError unless the network gives (B, C, H/stride, W/stride) for two shapes."""
    side = backbone.stride
    training = backbone.training
    backbone.eval()
    for rows, columns in ((8, 6), (6, 8)):
        try:
            with torch.no_grad():
                shape = tuple(backbone(torch.zeros(1, 3, rows * side, columns * side)).shape)
        except Exception as error:  # whatever a foreign network raises means the same here
            what = f"The network of {ref} gives no map for a picture: {type(error).__name__}: {error}."
            raise ModelError(
                what, "Choose a vision model, such as a ResNet, ConvNeXt, ViT or DINOv2."
            ) from error
        wanted = (1, backbone.channels, rows, columns)
        if shape != wanted:
            what = f"The network of {ref} gives a map of shape {shape} where {wanted} was expected."
            raise ModelError(what, CHOOSE)
    backbone.train(training)


def _colours(ref: str | Path, options: Mapping[str, Any]) -> dict[str, Any]:
    from transformers.image_processing_base import ImageProcessingMixin

    with _quiet():
        try:
            values, _ = ImageProcessingMixin.get_image_processor_dict(str(ref), **options)
        except OSError:
            values = {}
    mean, std = values.get("image_mean", IMAGENET_MEAN), values.get("image_std", IMAGENET_STD)
    if not values.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    factor = values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1.0
    return {
        "mean": tuple(round(value / factor, 6) for value in mean),
        "std": tuple(round(value / factor, 6) for value in std),
        "resize": _RESAMPLE.get(values.get("resample", 3), "bicubic"),
    }


def _options(ref: str | Path) -> dict[str, Any]:
    # A folder is complete in itself: never ask the hub for what it lacks. Code of a model is never run.
    return {"local_files_only": Path(ref).is_dir(), "trust_remote_code": False}


def _unavailable(ref: str | Path, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    if Path(ref).is_dir():
        what = f"The folder {ref} cannot be read as a transformers model: {reason}."
        return ModelError(what, "It needs config.json and model.safetensors as save_pretrained writes them.")
    what = f"There is no folder {ref}, and the hub did not give a model of that name: {reason}."
    return ModelError(what, "Check the name and the network, or download the model and give its folder.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting what is checked here anyway."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
