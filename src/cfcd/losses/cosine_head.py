"""What every cosine head does alike; a head itself only makes `Terms` of a `Batch`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfcd.errors import UsageError
from cfcd.losses import cosine_cross_entropy as core
from cfcd.losses.cosine_cross_entropy import Cosines, Terms
from cfcd.losses.global_batch import Gathered, add_up, gather, spans_processes


@dataclass(frozen=True)
class HeadOutput:
    """Hold what a head found in one batch; all but the loss without gradient.

    Attributes:
        loss: (), mean cross-entropy over the samples of this process.
        scale: (), s of this batch.
        margin: (), m of this batch.
        median: (), lower median of the target cosines of the global batch.
        logits: (N, C), if asked for. MadaCos's depend on the batch: never score images by them.
    """

    loss: Tensor
    scale: Tensor
    margin: Tensor
    median: Tensor
    logits: Tensor | None = None


class Batch:
    """The cosines of this process's samples, and the few numbers of other processes that a head may need.

    Args:
        cosines: Of this process's samples.
        spread: Whether the batch is spread over processes that all come this way.
    """

    def __init__(self, cosines: Cosines, *, spread: bool) -> None:
        """Gather the target cosines if the batch is spread."""
        self.cosines = cosines
        self.spread = spread
        self.targets = self._gathered(cosines.target)

    @cached_property
    def median_sample(self) -> Tensor:
        """Find the sample () of the global batch that has the lower median of the target cosines."""
        # A stable order settles ties alike on every process and device.
        order = torch.argsort(self.targets.values, stable=True)
        return order[(len(order) - 1) // 2]

    @property
    def median(self) -> Tensor:
        """Give the lower median () of the target cosines of the global batch, as torch.median does."""
        return self.targets.values[self.median_sample]

    def log_sum_of(self, sample: Tensor, scale: Tensor) -> Tensor:
        """Compute ln sum over c != y of exp(scale cos_c) for one sample () of the global batch, into ()."""
        place = sample - self.targets.start
        here = (place >= 0) & (place < len(self.cosines.target))
        column = self.cosines.others.index_select(1, place.clamp(0, len(self.cosines.target) - 1)[None])
        value = torch.where(here, core.log_sum_others(column, scale)[0], 0.0)
        # Only the owner adds something: one number travels, not a row of cosines.
        return add_up(value) if self.spread else value

    def log_sums(self, scale: Tensor) -> Tensor:
        """Compute ln sum over c != y_i of exp(scale cos_ic) for every sample of the global batch."""
        return self._gathered(core.log_sum_others(self.cosines.others, scale)).values

    def _gathered(self, values: Tensor) -> Gathered:
        return gather(values) if self.spread else Gathered(values, 0)


class CosineHead(nn.Module, ABC):
    """Classify by the cosine between a feature and one weight vector per class.

    Computes in float32 (float64 for float64 inputs) under any autocast, because at a scale of 400 rounding
    a cosine to bf16 moves its logit by up to 0.8. For the same reason TF32 products should stay off, as
    they are in torch unless asked for. In training, statistics are those of the global batch: with
    torch.distributed initialised, all processes must call `forward` together. In evaluation they are those
    of the process, so that one may evaluate alone.

    Args:
        dim: D, length of a feature.
        classes: C, at least 2.
    """

    def __init__(self, dim: int, classes: int) -> None:
        """Draw the weights (C, D)."""
        super().__init__()
        if dim < 1 or classes < 2:
            raise UsageError(
                f"A cosine head cannot have {classes} classes of {dim} numbers.",
                "Give at least 2 classes and 1 number.",
            )
        # Rows of length about 1 whatever C is: a step of the optimiser turns a row by 1 / |w|^2.
        self.weight = nn.Parameter(torch.empty(classes, dim).normal_(std=dim**-0.5))

    @abstractmethod
    def judge(self, batch: Batch) -> Terms:
        """Choose scale, margin and modified targets for one batch; only a learned scale has a gradient."""

    def forward(self, features: Tensor, labels: Tensor, *, keep_logits: bool = False) -> HeadOutput:
        """Compute the loss of features (N, D), of any length and floating type, with labels (N,) int64.

        Raises:
            UsageError: if the shapes do not fit, or, on the CPU, a label is no class.
        """
        self._check(features, labels)
        # The backward pass of the loss switches autocast off by itself.
        with torch.autocast(device_type=features.device.type, enabled=False):
            unit = F.normalize(features.to(core.working_type(features, self.weight)), eps=core.TINY_NORM)
            cosines = core.measure_cosines(unit.detach(), self.weight.detach(), labels)
            with torch.no_grad():
                batch = Batch(cosines, spread=self.training and spans_processes())
                terms = self.judge(batch)
            loss = core.cross_entropy(unit, self.weight, cosines, terms)
            logits = core.full_logits(cosines, terms) if keep_logits else None
        return HeadOutput(loss, terms.scale.detach().clone(), terms.margin, batch.median, logits)

    @torch.no_grad()
    def scores(self, features: Tensor) -> Tensor:
        """Compute plain cosines (N, C) of features (N, D), without gradient: what mining scores by."""
        with torch.autocast(device_type=features.device.type, enabled=False):
            kind = core.working_type(features, self.weight)
            weight = self.weight.detach().to(kind)
            norms = torch.linalg.vector_norm(weight, dim=1).clamp_min_(core.TINY_NORM)
            return (F.normalize(features.to(kind), eps=core.TINY_NORM) @ weight.T).div_(norms)

    def extra_repr(self) -> str:
        """Name the sizes in `print(head)`."""
        return f"dim={self.weight.shape[1]}, classes={self.weight.shape[0]}"

    def _check(self, features: Tensor, labels: Tensor) -> None:
        classes, dim = self.weight.shape
        if labels.ndim != 1 or features.shape != (len(labels), dim) or len(labels) == 0:
            raise UsageError(
                f"Features {tuple(features.shape)} and labels {tuple(labels.shape)} do not fit a head for "
                f"features of {dim} numbers.",
                f"Give features (N, {dim}) and labels (N,) with N at least 1.",
            )
        # A GPU would have to be waited for; there a label too large stops the kernel.
        if labels.device.type == "cpu":
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= classes:
                raise UsageError(
                    f"Labels from {low} to {high} do not fit a head of {classes} classes.",
                    f"Number the classes from 0 to {classes - 1}.",
                )
