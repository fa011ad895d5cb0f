"""The checkpoints of the CFCD authors (ICCV 2023, arXiv 2308.04008) as model folders.

Their files hold the network under `model_state`: the backbone as `globalmodel.*`, named as in pycls
(`stem`, stages `s1`..`s4`, blocks `b1`.., convolutions `a`, `b`, `c` in `f`, shortcut `proj` with `bn`), the
whitening as `fc` and `bn`, and in training checkpoints the class head as `desc_cls.weight`.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cfcd.errors import ModelError, UsageError
from cfcd.model.config import FIVE_SCALES, PRESETS, Backbone, Network, Whitening
from cfcd.model.create import NewModel
from cfcd.model.network import DescriptorNet
from cfcd.model.weights_file import check_values, file_sha256, load_exactly, read_tensors, resnet_depth

if TYPE_CHECKING:
    from cfcd.model.folder import ModelFolder

BACKBONES: dict[int, Backbone] = {50: "resnet50", 101: "resnet101"}
HOLDER = "model_state"
CLASS_HEAD = "desc_cls.weight"
REPOSITORY = "https://github.com/bassyess/CFCD"


def official_name(key: str) -> str:
    """Translate the name of a tensor of our network to that of the same tensor in the authors' files."""
    parts = key.split(".")
    if parts[0] == "whitening":
        return f"{'fc' if parts[1] == 'linear' else 'bn'}.{parts[-1]}"
    normalises = parts[-2] == "normalization"
    if parts[2] == "embedder":
        return f"globalmodel.stem.{'bn' if normalises else 'conv'}.{parts[-1]}"
    home = f"globalmodel.s{int(parts[4]) + 1}.b{int(parts[6]) + 1}"
    if parts[7] == "shortcut":
        return f"{home}.{'bn' if normalises else 'proj'}.{parts[-1]}"
    return f"{home}.f.{'abc'[int(parts[8])]}{'_bn' if normalises else ''}.{parts[-1]}"


def official_model(
    checkpoint: str | Path,
    *,
    depth: int,
    keep_head: bool = False,
    scales: tuple[float, ...] = FIVE_SCALES,
) -> NewModel:
    """Read a checkpoint of the authors, for inference or from training, with or without a wrapper's prefix.

    Args:
        checkpoint: Their `.pyth` file; read weights-only, so that nothing in it can run.
        depth: 50 or 101.
        keep_head: Keep the class head of a training checkpoint.
        scales: Relative to the original size.

    Raises:
        ModelError: The file cannot be read, or does not hold exactly this network.
        UsageError: There is no such depth.
        MissingExtra: transformers is not installed.
    """
    if depth not in BACKBONES:
        raise UsageError(f"The authors have no network of depth {depth}.", "Give 50 or 101.")
    file = Path(checkpoint)
    tensors = read_tensors(file, (HOLDER,))
    found = resnet_depth(tensors, r"globalmodel\.s3\.b\d+\.f\.c\.weight")
    if found not in (None, depth):
        what = f"{file} holds a ResNet-{found}, not a ResNet-{depth}."
        raise ModelError(what, f"Give the depth {found}." if found in BACKBONES else "Give their checkpoint.")
    head = tensors.pop(CLASS_HEAD, None)
    if keep_head and head is None:
        what = f"{file} has no class head ({CLASS_HEAD}): it is for inference only."
        raise ModelError(what, "Give the checkpoint of their training, or import it without the head.")
    # Layers draw random weights when made; reading must not move the caller's random state.
    with torch.random.fork_rng(devices=[]):
        net = DescriptorNet(Network(BACKBONES[depth], 2048, whitening=Whitening(512))).eval()
    load_exactly(net, tensors, {official_name(key): key for key in net.state_dict()}, file)
    record: dict[str, Any] = {
        "weights": f"the CFCD authors' ResNet-{depth}: {file.name}",
        "sha256": file_sha256(file),
        "licence": f"the authors' weights are theirs; for their terms see {REPOSITORY}",
        "paper": "Zhu, Gao, Ke, Qiao, Sun: Coarse-to-Fine (ICCV 2023), arXiv 2308.04008",
        "data": "Google Landmarks v2 clean, which shares landmarks with ROxford5k and RParis6k",
        "transformers": version("transformers"),
    }
    if keep_head and head is not None:
        head = _checked_head(head, file)
        record["class_head"] = f"{len(head)} classes"
    elif head is not None:
        record["left_out"], head = [CLASS_HEAD], None
    preprocessing = replace(PRESETS["official"], scales=scales)
    return NewModel(net, preprocessing, record, head)


def import_official(
    checkpoint: str | Path,
    out: str | Path,
    *,
    depth: int,
    name: str | None = None,
    keep_head: bool = False,
    scales: tuple[float, ...] = FIVE_SCALES,
) -> ModelFolder:
    """Write a model folder from a checkpoint of the authors; see `official_model`.

    Args:
        checkpoint: Their `.pyth` file.
        out: Target; a model that is there is replaced, anything else is never touched.
        depth: 50 or 101.
        name: Plain name of the model; made from the folder's when None.
        keep_head: Keep the class head of a training checkpoint, as `head.safetensors`.
        scales: Relative to the original size; the authors evaluate with five.

    Raises:
        ModelError: The checkpoint cannot be used, or the target holds something else.
        UsageError: There is no such depth.
        MissingExtra: transformers, onnx or safetensors is not installed.
    """
    return official_model(checkpoint, depth=depth, keep_head=keep_head, scales=scales).save(out, name=name)


def _checked_head(head: torch.Tensor, file: Path) -> torch.Tensor:
    if head.dim() != 2 or head.shape[1] != 512 or len(head) < 2:
        what = f"{file}: the tensor {CLASS_HEAD} has the shape {tuple(head.shape)} instead of (classes, 512)."
        raise ModelError(what, "Import it without the head.")
    # A stride of 0 lets a file of few bytes claim any number of classes.
    if head.layout == torch.strided and head.untyped_storage().nbytes() < head.nbytes:
        what = f"{file}: the tensor {CLASS_HEAD} claims {head.nbytes} bytes, more than the file holds of it."
        raise ModelError(what, "Import it without the head.")
    check_values(CLASS_HEAD, head, file)
    return head.float().contiguous()
