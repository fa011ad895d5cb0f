"""Which floating type runs where, and the memory allocator's settings."""

from __future__ import annotations

import ctypes
import sys
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass

import torch

from cfcd.errors import UsageError

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # mallopt's names for its parameters, glibc's malloc.h


@dataclass(frozen=True)
class Precision:
    """Say in which type layers compute; weights, gradients and losses stay float32.

    Attributes:
        frozen: Of layers that are only run forward.
        trained: Of layers that are trained.
        scaled: Whether gradients need loss scaling, as float16 does.
    """

    frozen: torch.dtype
    trained: torch.dtype
    scaled: bool = False


def choose_precision(name: str, device: torch.device) -> Precision:
    """Turn a recipe's precision ("auto", "fp32", "bf16", "fp16") into types for a device.

    Auto takes bf16 where the device has it, but not for trained layers on a CPU: there the backward pass of
    depthwise convolutions was measured 2.4 times slower in bf16 than in fp32.

    Raises:
        UsageError: fp16 on a CPU, which has no loss scaling in torch.
    """
    if name == "auto":
        if device.type == "cuda":
            # Older GPUs compute bf16 by way of fp32, slowly; torch would call that supported.
            able = torch.cuda.is_bf16_supported(including_emulation=False)
            kind = torch.bfloat16 if able else torch.float16
            return Precision(kind, kind, scaled=kind == torch.float16)
        able = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        return Precision(torch.bfloat16 if able else torch.float32, torch.float32)
    if name == "fp16" and device.type == "cpu":
        raise UsageError("run.precision fp16 needs a GPU.", "Use auto, bf16 or fp32 on this machine.")
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
    return Precision(kind, kind, scaled=name == "fp16")


def autocast(device: torch.device, kind: torch.dtype) -> AbstractContextManager[None]:
    """Compute in this type within the block."""
    return torch.autocast(device.type, dtype=kind, enabled=kind != torch.float32, cache_enabled=False)


def keep_memory() -> None:
    """Tell glibc to keep freed memory instead of handing every activation back to the system.

    Without it each step faults all its pages in again: measured 2.3 times slower. No other C library has it.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(_TRIM_THRESHOLD, (2 << 30) - 1)
