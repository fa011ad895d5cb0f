"""Time and peak memory of the cosine heads, against a plain dense one-hot implementation in the same run.

    python benchmarks/heads.py [--heads MadaCos ArcFace] [--classes 81313] [--rounds 7] [--device cpu]

One step is forward + backward of a batch. The plain side is what research code does: features and weights
through F.normalize, F.linear, a dense one-hot of the labels, F.cross_entropy; for MadaCos with its
statistics, for all others the leanest of them, ArcFace. Times are taken in turns. Memory is measured in
processes of their own: the peak of a step above what the process held before it, less the gradients that
the step leaves behind (VmHWM on Linux, the allocator's peak on a GPU).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfcd import losses

MIB = 2**20
Step = Callable[[Tensor, Tensor], Tensor]


def plain_madacos(weight: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Compute MadaCos densely (rho 0.02, floor 32)."""
    cosines = F.linear(F.normalize(features), F.normalize(weight))
    one_hot = torch.zeros_like(cosines).scatter_(1, labels[:, None], 1.0)
    with torch.no_grad():
        target = cosines.gather(1, labels[:, None])[:, 0]
        median, sample = torch.median(target, 0)
        scale = (math.log(9_999_999 * 0.98 / 0.02) / (1 - median)).clamp_min(32)
        others = torch.where(one_hot[sample] == 1, 0.0, torch.exp(scale * cosines[sample])).sum()
        margin = (median - torch.log(others * 0.02 / 0.98) / scale).clamp_min(0)
    return F.cross_entropy(scale * (cosines - margin * one_hot), labels)


def plain_arcface(weight: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Compute ArcFace densely (scale 64, margin 0.5), the angle of the targets alone."""
    cosines = F.linear(F.normalize(features), F.normalize(weight))
    target = cosines.gather(1, labels[:, None])
    sine = (1 - target.square()).clamp_min(1e-7).sqrt()
    turned = target * math.cos(0.5) - sine * math.sin(0.5)
    turned = torch.where(target > math.cos(math.pi - 0.5), turned, target - 0.5 * math.sin(0.5))
    one_hot = torch.zeros_like(cosines).scatter_(1, labels[:, None], 1.0)
    return F.cross_entropy(torch.where(one_hot == 1, turned, cosines) * 64.0, labels)


def make_step(name: str, options: argparse.Namespace) -> tuple[Callable[[], None], int]:
    """Build one side; return its step and the bytes of the gradients that a step leaves behind."""
    torch.manual_seed(0)
    features = torch.randn(options.batch, options.dim, device=options.device, requires_grad=True)
    labels = torch.randint(options.classes, (options.batch,), device=options.device)
    loss_of: Callable[[], Tensor]
    if name.startswith("plain"):
        plain = {"plain MadaCos": plain_madacos, "plain ArcFace": plain_arcface}[name]
        weight = nn.Parameter(torch.randn(options.classes, options.dim, device=options.device))

        def loss_of() -> Tensor:
            return plain(weight, features, labels)
    else:
        head = getattr(losses, name)(options.dim, options.classes).to(options.device)
        weight = head.weight

        def loss_of() -> Tensor:
            loss: Tensor = head(features, labels).loss
            return loss

    def step() -> None:
        weight.grad = features.grad = None
        torch.autograd.backward(loss_of())
        if options.device != "cpu":
            torch.cuda.synchronize()

    return step, (weight.numel() + features.numel()) * 4


def peak_mib(name: str, options: argparse.Namespace) -> float:
    """Measure the peak of the first step beyond parameters and gradients; for a process of its own."""
    torch.set_num_threads(options.threads)
    step, gradients = make_step(name, options)
    if options.device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before - gradients) / MIB
    # Thread pools and kernels' own buffers come with the first small step, on both sides alike.
    small = argparse.Namespace(**{**vars(options), "classes": 64})
    make_step(name, small)[0]()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    step()
    return (_status("VmHWM") - before - gradients) / MIB


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Measure every side and print a table and its JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = ["MadaCos", "Softmax", "CosFace", "ArcFace", "AdaCos", "CurricularFace"]
    parser.add_argument("--heads", nargs="+", choices=every, default=every)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=81_313)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    names = ["plain MadaCos", "plain ArcFace", *options.heads]
    environment = dict(os.environ)
    for key in [key for key in os.environ if key.startswith("MALLOC_")]:
        del os.environ[key]  # an allocator told to keep what is freed hides the peak; times may use one
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {name: pool.apply(peak_mib, (name, options)) for name in names}
    os.environ.update(environment)

    steps = {name: make_step(name, options)[0] for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(options.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:  # the first is for warming up
                times[name].append(time.perf_counter() - start)

    rows = []
    for name in names:
        rival = "plain MadaCos" if name == "MadaCos" else "plain ArcFace"
        ratios = [own / plain for own, plain in zip(times[name], times[rival], strict=True)]
        rows.append(
            {
                "head": name,
                "ms": round(1000 * statistics.median(times[name]), 1),
                "MiB": round(memory[name], 1),
                "time_ratio": round(statistics.median(ratios), 3),
                "memory_ratio": round(memory[name] / memory[rival], 3),
                "against": rival,
            }
        )
        print(
            "{head:16} {ms:8} ms {MiB:8} MiB   time x {time_ratio:5}   memory x {memory_ratio:5}".format(
                **rows[-1]
            )
        )
    settings = {
        key: getattr(options, key) for key in ("batch", "dim", "classes", "rounds", "threads", "device")
    }
    print(json.dumps({**settings, "machine": platform.machine(), "torch": torch.__version__, "rows": rows}))


if __name__ == "__main__":
    main()
