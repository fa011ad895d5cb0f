"""ResNet-50/101 weights in the format of torchvision and timm, for our backbones.

Both projects use the same names: `conv1`, `bn1`, then for stage S and block B `layerS.B.convN`,
`layerS.B.bnN`, `layerS.B.downsample.0` (convolution) and `.1` (normalisation), and `fc`, which has no place
here. In both, as here, the stride of a block sits in its 3x3 convolution ("v1.5"). Files of networks with the
stride in the first 1x1 convolution (Caffe's, MSRA's) have the same names and shapes and cannot be told apart:
do not give them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from cfcd.errors import ModelError
from cfcd.model.backbones import RESNETS, TransformersBackbone, build_transformers
from cfcd.model.weights_file import load_exactly, read_tensors, resnet_depth

# Where training scripts of these projects put the network; the files they publish are plain.
HOLDERS = ("state_dict", "model")
_CLASSIFIER = ("fc.weight", "fc.bias")


def torchvision_name(key: str) -> str:
    """Translate the name of a tensor of our ResNet backbone to torchvision's and timm's."""
    parts = key.split(".")
    kind = ("convolution", "normalization").index(parts[-2])
    if parts[1] == "embedder":
        return f"{('conv1', 'bn1')[kind]}.{parts[-1]}"
    home = f"layer{int(parts[3]) + 1}.{parts[5]}"
    if parts[6] == "shortcut":
        return f"{home}.downsample.{kind}.{parts[-1]}"
    return f"{home}.{('conv', 'bn')[kind]}{int(parts[7]) + 1}.{parts[-1]}"


def load_resnet(name: str, file: Path) -> tuple[TransformersBackbone, list[str]]:
    """Build a ResNet with the weights of a torchvision or timm file.

    Args:
        name: "resnet50" or "resnet101".
        file: `.pth` (read weights-only) or `.safetensors`.

    Returns:
        The backbone and the tensors of the file that have no place in it: the classifier's.

    Raises:
        ModelError: The file holds another network, not exactly these tensors, or more than tensors.
        MissingExtra: transformers or safetensors is not installed.
    """
    tensors = read_tensors(file, HOLDERS)
    left = sorted(key for key in _CLASSIFIER if key in tensors)
    for key in left:
        del tensors[key]
    _check_variant(tensors, name, file)
    backbone = build_transformers(RESNETS[name])
    load_exactly(backbone, tensors, {torchvision_name(key): key for key in backbone.state_dict()}, file)
    return backbone, left


def _check_variant(tensors: Mapping[str, torch.Tensor], name: str, file: Path) -> None:
    """Say which network a file holds where its names tell that it is another one."""
    depth = resnet_depth(tensors, r"layer3\.\d+\.conv3\.weight")
    signs = {
        "a transformers model": any(key.startswith(("resnet.", "embedder.", "encoder.")) for key in tensors),
        "a ResNet with a deep stem (such as resnet50d)": "conv1.0.weight" in tensors,
        "a ResNet with pooled shortcuts (such as resnet50d)": "layer1.0.downsample.2.weight" in tensors,
        "a ResNet with channel attention (such as seresnet50)": any(".se." in key for key in tensors),
        f"a ResNet-{depth}": depth is not None and name != f"resnet{depth}",
    }
    found = next((kind for kind, sign in signs.items() if sign), None)
    if found == "a transformers model":
        mend = "Give the folder it lies in, with its config.json, instead of the file."
        raise ModelError(f"{file} holds {found}, not a torchvision or timm {name}.", mend)
    if found:
        mend = f"Give {name} weights of torchvision or timm, or the backbone that the file belongs to."
        raise ModelError(f"{file} holds {found}, not a {name}.", mend)
