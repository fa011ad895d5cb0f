"""The README.md of a model folder: what the model is, where it comes from, how to use it."""

from __future__ import annotations

import json

from cfcd.model.config import ModelConfig, Preprocessing, preset_of

_TITLES = {
    "efficientnet_lite0": "EfficientNet-Lite0",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
}


def model_card(config: ModelConfig, cosine: float, sections: str = "", reference: str = "") -> str:
    """Write the card as Markdown.

    Args:
        config: The model.
        cosine: Smallest cosine between the descriptors of model.onnx and of the torch network.
        sections: Markdown put between the description and the tables: purpose, numbers, licence.
        reference: What to give `load_model` in the example; the folder when empty.
    """
    network, preprocessing = config.network, config.preprocessing
    if network.whitening is None:
        head = "no whitening layer"
    else:
        head = f"a linear layer to {network.whitening.dim} numbers"
        head += " with batch normalisation" if network.whitening.batchnorm else ""
    reference = reference or f"path/to/{config.name}"
    preset = preset_of(preprocessing)
    rows = {"preset": f"`{preset}`, that of the authors' code"} if preset else {}
    rows |= {
        "channel order": preprocessing.channel_order,
        "mean, 0..255": ", ".join(f"{value:g}" for value in preprocessing.mean),
        "std, 0..255": ", ".join(f"{value:g}" for value in preprocessing.std),
        "resize filter": _filter(preprocessing),
        "long side limit": "none" if preprocessing.long_side is None else f"{preprocessing.long_side} px",
        "sides rounded to multiples of": f"{preprocessing.side_multiple} px",
        "scales": ", ".join(f"{value:g}" for value in preprocessing.scales),
    }
    parts = [
        "---\nlibrary_name: cfcd\npipeline_tag: image-feature-extraction\n---",
        f"# {config.name}",
        f"Turns a picture into one descriptor: {network.dim} numbers, a unit vector; the inner product of two"
        f" descriptors says how alike the pictures are. Made by cfcd: {backbone_title(config)}, the"
        f" generalised mean over its last map ({network.channels} channels, p = {network.p:g}), {head}.",
        sections.strip(),
        "## Use",
        f'```python\nimport cfcd\n\nmodel = cfcd.load_model("{reference}")\n'
        f'descriptors = model.encode(["a.jpg", "b.jpg"])  # (2, {network.dim}) float32, unit rows\n```',
        f"`model.onnx` takes RGB bytes (N, H, W, 3) uint8 as `pixels`, of sides as below, and gives"
        f" `descriptor` (N, {network.dim}) float32, unit rows. OpenVINO on it against the torch network,"
        f" both fp32, over six probe pictures: smallest cosine {cosine:.6f}.",
        "## Preprocessing",
        _table("setting", "value", rows),
        "## Origin of the weights",
        _record(config.training),
        "## Files",
        _table("file", "SHA-256", {name: f"`{digest}`" for name, digest in config.files.items()}),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def backbone_title(config: ModelConfig) -> str:
    """Name the backbone for people."""
    network = config.network
    if network.backbone_config is None:
        return _TITLES[network.backbone]
    return f"{network.backbone_config.get('model_type', 'a backbone')} (transformers)"


def _filter(preprocessing: Preprocessing) -> str:
    if preprocessing.resize == "bilinear_plain":
        return "bilinear, not antialiased (half-pixel centres, as OpenCV's INTER_LINEAR)"
    return f"{preprocessing.resize} (Pillow, antialiased)"


def _table(left: str, right: str, rows: dict[str, str]) -> str:
    lines = [f"| {left} | {right} |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())]
    return "\n".join(lines)


def _record(training: dict[str, object]) -> str:
    if not training:
        return "Nothing was recorded."
    lines = []
    for key, value in training.items():
        # Line breaks or bars of a free record would break the list it stands in.
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f"- {key.replace('_', ' ')}: {' '.join(text.split())}")
    return "\n".join(lines)
