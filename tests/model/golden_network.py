"""The network of shared/golden: the authors' tensors filled by the rule of its README."""

from __future__ import annotations

import json
import zlib
from math import prod
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="shared/golden is not beside the repository")


def official_keys(depth):
    """Read the names and shapes of the authors' tensors."""
    return json.loads((GOLDEN / f"official_r{depth}_keys.json").read_text())


def official_value(key, shape):
    """Fill a tensor by the rule of shared/golden/README.md."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    z = generator.standard_normal(prod(shape)).reshape(shape)
    if key.endswith("running_var"):
        return 1 + 0.1 * np.abs(z)
    if key.endswith("running_mean"):
        return 0.1 * z
    if len(shape) >= 2:
        return z * np.sqrt(2 / (shape[0] * prod(shape[2:]) if len(shape) == 4 else shape[1]))
    if key.endswith("weight"):
        return (0.3 if ".c_bn." in key else 1) * (1 + 0.1 * z)
    return 0.1 * z


def official_resnet50(golden):
    """Make the authors' tensors of the golden ResNet-50, counters left out."""
    import torch

    tensors = {
        key: torch.from_numpy(np.asarray(official_value(key, shape), np.float32))
        for key, shape in official_keys(50).items()
        if not key.endswith("num_batches_tracked")
    }
    for name in ("running_mean", "running_var"):
        tensors[f"bn.{name}"] = torch.from_numpy(golden[f"bn.{name}"])
    return tensors
