"""Cross-entropy over the cosines between features and class weights, for a hundred thousand classes.

Written the usual way, a cosine head keeps a normalised copy of its weights, that copy's gradient and several
(N, C) tensors. Here it keeps one (C, N) matrix of cosines; all else is done a few thousand classes at a time.

Notation: f_i unit feature, w_c class weight, n_c = 1 / |w_c|, cos_ic = n_c f_i . w_c, t_i = cos_{i, y_i}.
A head gives the scale s, the modified target v_i = v(t_i) with its slope v'(t_i), and at most one
modification v(cos_ic) of the other classes. The loss is the mean over i of -ln P_i, with
    P_i = e^{s v_i} / (e^{s v_i} + R_i),  R_i = sum over c != y_i of e^{s v(cos_ic)}.
With e_ic = d loss / d cos_ic, which is s v'(t_i) (P_i - 1) / N for the target and s v'(cos_ic) P_ic / N for
the others, the chain rule through cos_ic = n_c f_i . w_c gives
    d loss / d f_i = sum over c of e_ic n_c w_c
    d loss / d w_c = n_c sum over i of e_ic f_i - (n_c^2 sum over i of e_ic cos_ic) w_c.
Targets are kept apart from the others, so P_i - 1 = -R_i / (e^{s v_i} + R_i) is never a difference of nearly
equal numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 8192
"""Classes at a time: more gain no speed, fewer wait more often for the slowest thread."""

ABSENT = -1e20
"""Stands where a target was taken out: its exponential is 0 at every scale, and 0 times it is 0, not NaN."""

TINY_NORM = 1e-12
"""Shorter weights are divided by this, as in torch.nn.functional.normalize."""


@dataclass(frozen=True)
class Cosines:
    """Hold the cosines of one batch: N samples, C classes; float32, or float64 for float64 inputs.

    Attributes:
        target: (N,), cosine of each sample to its own class.
        others: (C, N), all cosines, with ABSENT in place of the targets.
        inverse_norms: (C,), 1 / |w_c|.
        labels: (N,) int64.
    """

    target: Tensor
    others: Tensor
    inverse_norms: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Hard:
    """Replace a cosine to another class above its sample's `threshold` (N,) by cos (cos + `weight` ())."""

    threshold: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Terms:
    """Say what a head makes of a batch.

    Attributes:
        scale: (), s.
        margin: (), for the record.
        target: (N,), the modified target cosines v(t).
        slope: (N,), v'(t).
        hard: Modification of the other classes, if any.
    """

    scale: Tensor
    margin: Tensor
    target: Tensor
    slope: Tensor
    hard: Hard | None = None


def working_type(features: Tensor, weight: Tensor) -> torch.dtype:
    """Compute in float32, or in float64 if an input is float64; never in half precision."""
    return torch.promote_types(torch.promote_types(features.dtype, weight.dtype), torch.float32)


@torch.no_grad()
def measure_cosines(unit: Tensor, weight: Tensor, labels: Tensor) -> Cosines:
    """Measure the cosines of unit features (N, D) to class weights (C, D); labels are (N,) int64."""
    others = unit.new_empty(len(weight), len(unit))
    inverse_norms = unit.new_empty(len(weight))
    for part in _parts(len(weight)):
        rows = weight[part].to(unit.dtype)
        norms = torch.linalg.vector_norm(rows, dim=1).clamp_min_(TINY_NORM)
        inverse_norms[part] = norms.reciprocal_()
        torch.mm(rows, unit.T, out=others[part]).mul_(norms[:, None])
    samples = torch.arange(len(unit), device=unit.device)
    target = others[labels, samples]
    others[labels, samples] = ABSENT
    return Cosines(target, others, inverse_norms, labels)


@torch.no_grad()
def log_sum_others(others: Tensor, scale: Tensor, hard: Hard | None = None) -> Tensor:
    """Compute ln R_i = ln sum over c != y_i of exp(s v(cos_ic)) from (C, N) into (N,), safe from overflow."""
    top = others.new_full(others.shape[1:], -torch.inf)
    total = torch.zeros_like(top)
    for part in _parts(len(others)):
        logits = others[part] * scale if hard is None else _hardened(others[part], hard)[0].mul_(scale)
        higher = torch.maximum(top, logits.amax(0))
        total = total * (top - higher).exp_() + logits.sub_(higher).exp_().sum(0)
        top = higher
    return total.log_().add_(top)


def cross_entropy(unit: Tensor, weight: Tensor, cosines: Cosines, terms: Terms) -> Tensor:
    """Compute the mean loss () with gradients to `unit` (N, D), `weight` (C, D) and a learned scale.

    `cosines` must be those of `unit` and `weight`; it is taken as given and carries no gradient of its own.
    """
    loss: Tensor = _CrossEntropy.apply(unit, weight, terms.scale, cosines, terms)  # type: ignore[no-untyped-call]
    return loss


def full_logits(cosines: Cosines, terms: Terms) -> Tensor:
    """Write out the logits (N, C) that `cross_entropy` only passes through, without gradient."""
    others = cosines.others if terms.hard is None else _hardened(cosines.others, terms.hard)[0]
    logits = (others * terms.scale.detach()).T.contiguous()
    return logits.scatter_(1, cosines.labels[:, None], (terms.scale.detach() * terms.target)[:, None])


class _CrossEntropy(torch.autograd.Function):
    """The loss of the module docstring, with its gradient by formula."""

    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, weight: Tensor, scale: Tensor, cosines: Cosines, terms: Terms
    ) -> Tensor:
        rest = log_sum_others(cosines.others, scale, terms.hard)
        gap = rest - scale * terms.target
        ctx.save_for_backward(unit, weight, scale, cosines.others, rest, gap)
        ctx.cosines, ctx.terms = (cosines.target, cosines.inverse_norms, cosines.labels), terms
        return -F.logsigmoid(-gap).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        unit, weight, scale, others, rest, gap = ctx.saved_tensors
        cosine, inverse_norms, labels = ctx.cosines
        terms: Terms = ctx.terms
        wants_unit, wants_weight, wants_scale = ctx.needs_input_grad[:3]
        share = upstream.to(unit.dtype) * scale / len(unit)  # what every e_ic has in common
        everything = rest - F.logsigmoid(gap)  # ln (e^{s v_i} + R_i)
        grad_unit = torch.zeros_like(unit) if wants_unit else None
        grad_weight = torch.empty_like(weight) if wants_weight else None
        pull = unit.new_zeros(())  # sum over i and c != y_i of e_ic cos_ic

        with torch.autocast(device_type=unit.device.type, enabled=False):
            for part in _parts(len(weight)):
                if terms.hard is None:
                    error = (others[part] * scale).sub_(everything).exp_().mul_(share)
                else:
                    values, slopes = _hardened(others[part], terms.hard)
                    error = values.mul_(scale).sub_(everything).exp_().mul_(share).mul_(slopes)
                rows, norms = weight[part].to(unit.dtype), inverse_norms[part]
                radial = torch.linalg.vecdot(error, others[part])
                pull += radial.sum()
                error.mul_(norms[:, None])
                if grad_unit is not None:
                    grad_unit.addmm_(error.T, rows)
                if grad_weight is not None:
                    same = grad_weight.dtype == unit.dtype
                    grad = grad_weight[part] if same else unit.new_empty(rows.shape)
                    torch.mm(error, unit, out=grad)
                    grad.addcmul_(rows, radial.mul_(norms).mul_(norms)[:, None], value=-1)
                    if not same:
                        grad_weight[part] = grad

            wrong = torch.sigmoid(gap)  # 1 - P_i
            error = (-share * terms.slope * wrong)[:, None]
            rows, norms = weight[labels].to(unit.dtype), inverse_norms[labels][:, None]
            if grad_unit is not None:
                grad_unit.add_(error * norms * rows)
            if grad_weight is not None:
                grad = error * norms * (unit - cosine[:, None] * norms * rows)
                grad_weight.index_add_(0, labels, grad.to(grad_weight.dtype))
            grad_scale = None
            if wants_scale:
                grad_scale = pull / scale - (upstream * wrong * terms.target).mean()
        return grad_unit, grad_weight, grad_scale, None, None


def _parts(classes: int) -> Iterator[slice]:
    """Cut the classes into slices of at most CHUNK."""
    for start in range(0, classes, CHUNK):
        yield slice(start, min(start + CHUNK, classes))


def _hardened(cosines: Tensor, hard: Hard) -> tuple[Tensor, Tensor]:
    """Apply `hard` to cosines (k, N); return the values and the slopes, both fresh."""
    above = cosines > hard.threshold
    values = torch.where(above, cosines * (cosines + hard.weight), cosines)
    return values, torch.where(above, 2 * cosines + hard.weight, 1.0)
