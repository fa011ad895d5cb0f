"""MadaCos and its rivals: how each modifies the cosines before the softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cfcd.errors import UsageError
from cfcd.losses.cosine_cross_entropy import Hard, Terms
from cfcd.losses.cosine_head import Batch, CosineHead

LOG_ODDS_AT_ONE = math.log(9_999_999)
"""ln of the odds of P(1) = 1 - 1e-7, the probability that MadaCos gives to a cosine of 1."""

LEAST_SINE_SQUARED = 1e-7
"""About the rounding of 1 - t^2 in float32; it keeps the slope of cos(theta + m) finite at theta = 0."""


class MadaCos(CosineHead):
    """Set scale and margin so that the median sample has probability rho and a perfect one 1 - 1e-7.

    With t* the lower median of the target cosines of the global batch, i* its sample, and without gradient:
        s = ln(9,999,999 (1 - rho) / rho) / (1 - t*), between floor and ceiling
        B* = sum over c != y_{i*} of exp(s cos_{i*, c})
        m = max(0, t* - ln(B* rho / (1 - rho)) / s), 0 when not training
    and the target logit is s (t - m). ln B* is computed as a logsumexp: exp(s cos) itself overflows float32.
    Source: Zhu, Gao, Ke, Qiao, Sun, "Coarse-to-Fine: Learning Compact Discriminative Representation for
    Single-Stage Image Retrieval" (ICCV 2023, arXiv 2308.04008).

    Args:
        dim: D, length of a feature.
        classes: C, at least 2.
        rho: Probability of the median sample, in (0, 1); smaller is stricter.
        floor: Least scale.
        ceiling: Greatest scale; math.inf is what the authors have. 1024 is reached at t* = 0.98. Without one,
            the pull on an angle, s sin(theta), grows as 28 / sqrt(1 - t*), and a small collection fitted well
            would blow up the step. P(t*) = rho holds under a ceiling too; P(1) is then below 1 - 1e-7.
    """

    def __init__(
        self, dim: int, classes: int, *, rho: float = 0.02, floor: float = 32.0, ceiling: float = 1024.0
    ) -> None:
        """Draw the weights and keep the settings."""
        super().__init__(dim, classes)
        _require(0 < rho < 1, f"MadaCos cannot make {rho} a probability.", "a rho between 0 and 1")
        _require(
            0 < floor <= ceiling and floor < math.inf,
            f"MadaCos cannot keep its scale between {floor} and {ceiling}.",
            "positive ones in order, such as 32 and 1024",
        )
        self.rho, self.floor, self.ceiling = rho, floor, ceiling

    def judge(self, batch: Batch) -> Terms:
        """Choose scale and margin from the median sample of the global batch."""
        median = batch.median
        log_odds = math.log(self.rho / (1 - self.rho))
        # Rounding can put a cosine on or above 1; the scale must neither divide by zero nor turn negative.
        distance = (1 - median).clamp_min(torch.finfo(median.dtype).eps / 2)
        scale = ((LOG_ODDS_AT_ONE - log_odds) / distance).clamp(self.floor, self.ceiling)
        margin = torch.zeros_like(median)
        if self.training:
            others = batch.log_sum_of(batch.median_sample, scale)
            margin = (median - (others + log_odds) / scale).clamp_min(0)
        return _shifted(batch, scale, margin)


class Softmax(CosineHead):
    """Multiply the cosines by a scale, without margin ("normalised softmax").

    Source: Wang, Xiang, Cheng, Yuille, "NormFace: L2 Hypersphere Embedding for Face Verification" (2017).
    Cosines rather than a plain linear layer, because retrieval compares by cosine and so do all rivals here.

    Args:
        dim: D, length of a feature.
        classes: C, at least 2.
        scale: s, or where it starts.
        learn_scale: Make s a parameter, as NormFace does.
    """

    scale: Tensor

    def __init__(self, dim: int, classes: int, *, scale: float = 30.0, learn_scale: bool = False) -> None:
        """Draw the weights and keep or register the scale."""
        super().__init__(dim, classes)
        _require_scale(scale)
        if learn_scale:
            self.scale = nn.Parameter(torch.tensor(scale))
        else:
            self.register_buffer("scale", torch.tensor(scale), persistent=False)

    def judge(self, batch: Batch) -> Terms:
        """Leave the cosines as they are."""
        with torch.enable_grad():  # the conversion of a learned scale must pass its gradient on
            scale = self.scale.to(batch.median.dtype)
        return _shifted(batch, scale, torch.zeros_like(batch.median))


class CosFace(CosineHead):
    """Subtract a fixed margin from the target cosine: s (t - m).

    Source: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition" (CVPR 2018).

    Args:
        dim: D, length of a feature.
        classes: C, at least 2.
        scale: s.
        margin: m, in cosine; at least 0.
    """

    def __init__(self, dim: int, classes: int, *, scale: float = 64.0, margin: float = 0.35) -> None:
        """Draw the weights and keep the settings."""
        super().__init__(dim, classes)
        _require_scale(scale)
        _require(
            0 <= margin < 2, f"A margin of {margin} is no difference of cosines.", "one from 0 to below 2"
        )
        self.scale, self.margin = scale, margin

    def judge(self, batch: Batch) -> Terms:
        """Subtract the margin."""
        return _shifted(batch, batch.median.new_full((), self.scale), batch.median.new_full((), self.margin))


class ArcFace(CosineHead):
    """Add a fixed margin to the target angle: s cos(theta + m).

    Beyond theta = pi - m, where cos(theta + m) would rise again, it goes on as s (t - m sin m).
    Source: Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition" (CVPR
    2019); the part beyond pi - m from the authors' code.

    Args:
        dim: D, length of a feature.
        classes: C, at least 2.
        scale: s.
        margin: m, in radians; from 0 to pi / 2.
    """

    def __init__(self, dim: int, classes: int, *, scale: float = 64.0, margin: float = 0.5) -> None:
        """Draw the weights and keep the settings."""
        super().__init__(dim, classes)
        _require_scale(scale)
        _require_angle(margin)
        self.scale, self.margin = scale, margin

    def judge(self, batch: Batch) -> Terms:
        """Add the margin to the angle."""
        target, slope, _ = _turned(batch.cosines.target, self.margin)
        return Terms(target.new_full((), self.scale), target.new_full((), self.margin), target, slope)


class AdaCos(CosineHead):
    """Let the scale follow the batch, without margin (the dynamic version).

    s starts at sqrt(2) ln(C - 1); from the second training batch on, with s' the scale before,
        s = ln(mean over i of sum over c != y_i of exp(s' cos_ic)) / cos(min(pi / 4, theta*)),
    theta* the median target angle, both over the global batch. Evaluation uses the last s.
    Source: Zhang, Zhao, Qiao, Wang, Li, "AdaCos: Adaptively Scaling Cosine Logits for Effectively Learning
    Deep Face Representations" (CVPR 2019, arXiv 1905.00292). Own addition: s is kept at 1 at least, because
    with two or three classes the formulae give 0 or less.

    Args:
        dim: D, length of a feature.
        classes: C, at least 2.
    """

    scale: Tensor
    started: Tensor

    def __init__(self, dim: int, classes: int) -> None:
        """Draw the weights and start the scale."""
        super().__init__(dim, classes)
        self.register_buffer("scale", torch.tensor(max(1.0, math.sqrt(2) * math.log(classes - 1))))
        self.register_buffer("started", torch.tensor(False))

    def judge(self, batch: Batch) -> Terms:
        """Move the scale."""
        scale = self.scale.to(batch.median.dtype)
        if self.training:
            # cos(min(pi / 4, theta)) = max(cos(pi / 4), cos(theta)), because the cosine falls there.
            log_sums = batch.log_sums(scale)
            log_mean = torch.logsumexp(log_sums, 0) - math.log(len(log_sums))
            moved = log_mean / batch.median.clamp(math.sqrt(0.5), 1)
            scale = torch.where(self.started, moved.clamp_min(1), scale)
            self.scale.copy_(scale)
            self.started.fill_(True)
        return _shifted(batch, scale, torch.zeros_like(scale))


class CurricularFace(CosineHead):
    """Add a margin to the target angle, and weigh hard classes more as training goes on.

    The target is ArcFace's. Another class with cos > cos(theta + m) gets s cos (cos + r), where r, at first
    0, goes a hundredth of its way to the mean target cosine of the global batch with every training batch.
    Source: Huang et al., "CurricularFace: Adaptive Curriculum Learning Loss for Deep Face Recognition" (CVPR
    2020, arXiv 2004.00288); the direction of the moving average from the authors' code.

    Args:
        dim: D, length of a feature.
        classes: C, at least 2.
        scale: s.
        margin: m, in radians; from 0 to pi / 2.
    """

    progress: Tensor

    def __init__(self, dim: int, classes: int, *, scale: float = 64.0, margin: float = 0.5) -> None:
        """Draw the weights and keep the settings."""
        super().__init__(dim, classes)
        _require_scale(scale)
        _require_angle(margin)
        self.scale, self.margin = scale, margin
        self.register_buffer("progress", torch.tensor(0.0))

    def judge(self, batch: Batch) -> Terms:
        """Add the margin to the angle and find the hard classes."""
        target, slope, threshold = _turned(batch.cosines.target, self.margin)
        if self.training:
            self.progress.lerp_(batch.targets.values.mean().to(self.progress.dtype), 0.01)
        hard = Hard(threshold, self.progress.to(target.dtype, copy=True))
        return Terms(target.new_full((), self.scale), target.new_full((), self.margin), target, slope, hard)


def _shifted(batch: Batch, scale: Tensor, margin: Tensor) -> Terms:
    """Subtract a margin in cosine from the targets."""
    target = batch.cosines.target
    return Terms(scale, margin, target - margin, torch.ones_like(target))


def _turned(cosine: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """Add a margin to the angles of (N,) cosines: values, slopes, and cos(theta + m) whatever theta."""
    sine = (1 - cosine.square()).clamp_min(LEAST_SINE_SQUARED).sqrt_()
    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    falling = cosine > -math.cos(margin)  # theta < pi - m
    value = torch.where(falling, turned, cosine - margin * math.sin(margin))
    slope = torch.where(falling, math.cos(margin) + cosine / sine * math.sin(margin), 1.0)
    return value, slope, turned


def _require(fine: bool, what: str, wanted: str) -> None:
    if not fine:
        raise UsageError(what, f"Choose {wanted}.")


def _require_scale(scale: float) -> None:
    _require(0 < scale < math.inf, f"A scale of {scale} gives no probabilities.", "one above 0, such as 30")


def _require_angle(margin: float) -> None:
    # With much more, ArcFace would jump up at theta = pi - m.
    _require(0 <= margin <= math.pi / 2, f"A margin of {margin} is no angle to add.", "one from 0 to pi / 2")
