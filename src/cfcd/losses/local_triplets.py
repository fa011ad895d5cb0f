"""Triplets of local descriptors: what matches in anchor and positive, against the nearest in negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cfcd.errors import UsageError

TINY_NORM = 1e-6
"""Shorter descriptors are divided by this, so that the gradient of an empty position stays finite."""


@dataclass(frozen=True)
class LocalTriplets:
    """Hold the loss of T tuples of S pictures and the P pairs of positions behind it.

    Attributes:
        loss: (), attached to the graph even without a pair.
        accepted: (T,) int64, pairs per tuple.
        active: (), int64, triplets with a loss above 0, of P (S - 2).
        tuples: (P,) int64, tuple of each pair; pairs are ordered by tuple, then by position in the positive.
        anchors: (P,) int64, position in the anchor, row by row through its map.
        positives: (P,) int64, position in the positive.
        negatives: (P, S - 2) int64, nearest position in each negative.
    """

    loss: Tensor
    accepted: Tensor
    active: Tensor
    tuples: Tensor
    anchors: Tensor
    positives: Tensor
    negatives: Tensor


def local_descriptors(last_map: Tensor, tuple_size: int = 8) -> Tensor:
    """View a last map (T * S, C, h, w), in tuples of S = `tuple_size`, as local descriptors (T, S, h * w, C).

    Raises:
        UsageError: if the batch is not made of whole tuples.
    """
    if last_map.ndim != 4 or len(last_map) % tuple_size:
        raise UsageError(
            f"A map of shape {tuple(last_map.shape)} is no batch of whole tuples of {tuple_size}.",
            f"Give a map (B, C, h, w) with B a multiple of {tuple_size}.",
        )
    rows = last_map.flatten(2).transpose(1, 2)
    return rows.view(-1, tuple_size, *rows.shape[1:])


def local_triplet_loss(
    descriptors: Tensor,
    attention: Tensor | None = None,
    *,
    mu: float = 0.1,
    ratio: float = 0.9,
    reduction: Literal["sum", "mean"] = "sum",
) -> LocalTriplets:
    """Compute the triplet loss of the local descriptors of T tuples (anchor, positive, S - 2 negatives).

    With u the descriptors at unit length, a pair of positions (in anchor, in positive) is accepted if the
    two are mutual nearest neighbours, d1 / d2 <= ratio for the nearest and second nearest distance from the
    positive's position to the anchor, and the positive's position is among the floor(K / 2) of greatest
    attention. For each pair and negative, u_n is the negative's descriptor nearest to u_a (the choice
    carries no gradient), and
        loss = sum over pairs and negatives of max(0, |u_a - u_p|^2 - |u_a - u_n|^2 + mu).
    Equal distances and equal attention are settled for the lower position. Computes in float32 (float64 for
    float64 descriptors) under any autocast.
    Source: Zhu, Gao, Ke, Qiao, Sun, "Coarse-to-Fine: Learning Compact Discriminative Representation for
    Single-Stage Image Retrieval" (ICCV 2023, arXiv 2308.04008).

    Args:
        descriptors: (T, S, K, C), of any length and floating type: `local_descriptors(last_map)`.
        attention: (T, S, K); if None, the sum of absolute values over C.
        mu: Margin in squared distance.
        ratio: Greatest d1 / d2.
        reduction: "sum" over everything (the authors), whose weight grows with the number of pairs, or "mean"
            over all pairs and negatives of the T tuples.

    Raises:
        UsageError: if the shapes or the reduction make no sense.
    """
    _check(descriptors, attention, reduction)
    members = torch.arange(descriptors.shape[1], device=descriptors.device)
    with torch.autocast(device_type=descriptors.device.type, enabled=False):
        # Converted here, so that the gradients of a position chosen many times are added in float32.
        descriptors = descriptors.to(torch.promote_types(descriptors.dtype, torch.float32))
        with torch.no_grad():
            unit = F.normalize(descriptors, dim=-1, eps=TINY_NORM)
            of_positive = descriptors[:, 1].abs().sum(-1) if attention is None else attention[:, 1]
            tuples, anchors, positives = _matches(unit[:, 0], unit[:, 1], of_positive, ratio)
            negatives = _nearest(unit[:, 0], unit[:, 2:])[tuples, anchors]
        positions = torch.cat([anchors[:, None], positives[:, None], negatives], 1)
        # One gather, of the accepted positions only: autograd keeps nothing of the size of the map.
        chosen = descriptors[tuples[:, None], members, positions]
        chosen = F.normalize(chosen, dim=-1, eps=TINY_NORM)
        squares = (chosen[:, :1] - chosen[:, 1:]).square().sum(-1)  # from the anchor to all others
        hinges = F.relu(squares[:, :1] - squares[:, 1:] + mu)
        loss = hinges.sum()
        if reduction == "mean":
            loss = loss / max(1, hinges.numel())
    accepted = torch.bincount(tuples, minlength=len(descriptors))
    return LocalTriplets(loss, accepted, (hinges > 0).sum(), tuples, anchors, positives, negatives)


def _matches(left: Tensor, right: Tensor, attention: Tensor, ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Accept pairs between unit descriptors (T, K, C): tuple, left and right position, (P,) each."""
    distances = _squared_distances(left, right)
    count = distances.shape[1]
    nearest = distances.argmin(1)  # of the left, for each position of the right
    back = distances.argmin(2).gather(1, nearest)
    mutual = back == torch.arange(count, device=back.device)
    first = distances.amin(1)
    second = distances.scatter(1, nearest[:, None], torch.inf).amin(1)
    # 0 / 0, where two positions of the left equal the right's, is NaN and refused.
    distinct = first.sqrt() / second.sqrt() <= ratio
    order = torch.argsort(attention, dim=1, descending=True, stable=True)
    attended = torch.zeros_like(mutual).scatter_(1, order[:, : count // 2], True)
    tuples, positives = torch.nonzero(mutual & distinct & attended, as_tuple=True)
    return tuples, nearest[tuples, positives], positives


def _nearest(anchor: Tensor, negatives: Tensor) -> Tensor:
    """Find, for anchors (T, K, C), the nearest position in each of M negatives (T, M, K, C), as (T, K, M)."""
    distances = _squared_distances(anchor, negatives.flatten(1, 2))
    return distances.view(*anchor.shape[:2], *negatives.shape[1:3]).argmin(-1)


def _squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """Compute the squared distances (T, K, M) between rows of (T, K, C) and (T, M, C)."""
    lengths = left.square().sum(-1)[:, :, None] + right.square().sum(-1)[:, None, :]
    return torch.baddbmm(lengths, left, right.transpose(1, 2), alpha=-2).clamp_min_(0)


def _check(descriptors: Tensor, attention: Tensor | None, reduction: str) -> None:
    if descriptors.ndim != 4 or descriptors.shape[1] < 3:
        raise UsageError(
            f"Local descriptors of shape {tuple(descriptors.shape)} are no tuples with negatives.",
            "Give (T, S, K, C) with S at least 3: anchor, positive, negatives.",
        )
    if attention is not None and attention.shape != descriptors.shape[:3]:
        raise UsageError(
            f"Attention {tuple(attention.shape)} does not fit descriptors {tuple(descriptors.shape)}.",
            "Give one number per position: (T, S, K).",
        )
    if reduction not in ("sum", "mean"):
        raise UsageError(f"Triplets cannot be reduced by {reduction!r}.", "Choose sum or mean.")
