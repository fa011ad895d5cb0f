"""Weight files made elsewhere: tensors by name out of torch files and safetensors, never code."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import nn

from cfcd.errors import ModelError
from cfcd.model.extras import need
from cfcd.model.folder import check_tensors

SUFFIXES = {".bin", ".ckpt", ".pt", ".pth", ".pyth", ".safetensors", ".tar"}
MAX_BYTES = 8 << 30
_MAX_PICKLE_BYTES = 64 << 20  # the names and shapes of a large network take a few MiB
_MEND = "Give a .pth file that torch.save wrote, or a .safetensors file; fetch it again."
_COUNTER = "num_batches_tracked"
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_THIRD_STAGE = {6: 50, 23: 101, 36: 152}  # blocks -> depth of the ResNet


def is_weights_file(ref: str | Path) -> bool:
    """Tell a file of weights from the name of a model on a hub, by its being there or by its suffix."""
    return Path(ref).is_file() or Path(ref).suffix.lower() in SUFFIXES


def read_tensors(file: Path, holders: Sequence[str] = ()) -> dict[str, torch.Tensor]:
    """Read named tensors from a torch file (weights only) or safetensors.

    Files are mapped into memory where their format allows it, so that what is not used (the state of an
    optimiser) is not read. The prefix "module." of a distributed wrapper is taken off.

    Args:
        file: Any suffix; safetensors are known by theirs.
        holders: Keys under which checkpoints hold the network, the first that is there is taken; without one,
            the file itself must be the mapping of names to tensors.

    Raises:
        ModelError: The file is missing, too large, damaged, or holds anything but tensors by name.
        MissingExtra: safetensors is needed and not installed.
    """
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise ModelError(f"{file} is no file.", "Give the file of the weights itself.")
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}.", "Check the path.") from error
    if size > MAX_BYTES:
        raise ModelError(
            f"{file} has {size} bytes, over the limit of {MAX_BYTES} for weights.", "Give a smaller file."
        )
    data = _safetensors(file) if file.suffix.lower() == ".safetensors" else _torch(file)
    for holder in holders:
        if isinstance(data, Mapping) and isinstance(data.get(holder), Mapping):
            data = data[holder]
            break
    named = isinstance(data, Mapping) and all(isinstance(key, str) for key in data)
    odd = [key for key, value in data.items() if not isinstance(value, torch.Tensor)] if named else []
    if not named or not data or odd:
        held = f"{odd[0]!r}, which is no tensor" if odd else "no tensors by name"
        under = f" under {' or '.join(holders)} or" if holders else ""
        raise ModelError(f"{file} holds {held}.", f"Weights are expected{under} as a plain state_dict.")
    if all(key.startswith("module.") for key in data):
        data = {key.removeprefix("module."): value for key, value in data.items()}
    return dict(data)


def load_exactly(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], names: Mapping[str, str], file: Path
) -> None:
    """Copy tensors into a module that must have all of them and no others, as float32.

    Counters of batch normalisation may be absent: nothing here uses them, and old files have none.

    Args:
        module: Takes the values.
        tensors: By their names in the file.
        names: Name in the file -> name in the module's state, for its whole state.
        file: For messages.

    Raises:
        ModelError: Tensors are missing, unexpected or misshapen, or hold something else than finite numbers.
    """
    own = module.state_dict()
    wanted = {
        theirs: tuple(own[ours].shape)
        for theirs, ours in names.items()
        if theirs in tensors or not theirs.endswith(_COUNTER)
    }
    check_tensors({key: tuple(value.shape) for key, value in tensors.items()}, wanted, str(file))
    for key, value in tensors.items():
        check_values(key, value, file)
    module.load_state_dict({names[key]: value for key, value in tensors.items()}, strict=False)


def check_values(key: str, value: torch.Tensor, file: Path) -> None:
    """Raise ModelError unless a tensor is dense, floating (a counter: real) and finite."""
    fitting = not value.is_complex() if key.endswith(_COUNTER) else value.is_floating_point()
    plain = value.layout == torch.strided and value.device.type == "cpu" and fitting
    if not plain or not bool(torch.isfinite(value).all()):
        fault = "holds values that are not finite" if plain else f"is {value.dtype}, {value.layout}"
        raise ModelError(f"{file}: the tensor {key} {fault}.", "Give weights of finite floating numbers.")


def resnet_depth(tensors: Mapping[str, torch.Tensor], block: str) -> int | None:
    """Tell the depth of a ResNet of bottlenecks by the blocks of its third stage.

    Args:
        tensors: By their names in the file.
        block: Regular expression that one name of every such block matches in full.

    Returns:
        50, 101, 152, or None if it is none of them.
    """
    pattern = re.compile(block)
    return _THIRD_STAGE.get(sum(pattern.fullmatch(key) is not None for key in tensors))


def file_sha256(file: Path) -> str:
    """Compute the SHA-256 (hex) of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _safetensors(file: Path) -> Any:
    need("safetensors", "Reading safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise _damaged(file, error) from error


def _torch(file: Path) -> Any:
    with file.open("rb") as stream:
        is_zip = stream.read(4) == b"PK\x03\x04"
    try:
        if is_zip:
            _check_archive(file)
        # Files from before torch 1.6 are no archives and cannot be mapped.
        return torch.load(str(file), map_location="cpu", weights_only=True, mmap=is_zip)
    except ModelError:
        raise
    except Exception as error:  # damaged files make the reader raise many kinds
        if foreign := _GLOBAL.search(str(error)):
            what = f"{file} wants to run {foreign[1]} when it is loaded, and was not loaded."
            mend = "Give a file of tensors only: `torch.save(model.state_dict(), file)` where you trust it."
            raise ModelError(what, mend) from error
        if isinstance(error, UnpicklingError):  # its words advise to load whatever the file asks for
            what = f"{file} is no file of weights, or is damaged, and was not loaded."
            raise ModelError(what, _MEND) from error
        raise _damaged(file, error) from error


def _check_archive(file: Path) -> None:
    """Raise ModelError when reading an archive would unpack more than it holds; torch itself never packs."""
    try:
        with ZipFile(file) as archive:
            entries = archive.infolist()
    except BadZipFile as error:
        raise _damaged(file, error) from error
    index = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    if index > _MAX_PICKLE_BYTES or any(entry.compress_type != ZIP_STORED for entry in entries):
        raise ModelError(f"{file} is packed in a way that torch does not write.", "Save it again with torch.")


def _damaged(file: Path, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0].rstrip(".:") if str(error).strip() else type(error).__name__
    return ModelError(f"{file} is no file of weights, or is damaged: {reason[:200]}.", _MEND)
