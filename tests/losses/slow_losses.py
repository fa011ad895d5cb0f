"""The losses written the obvious way: dense, one formula after the other, loops where loops are clearest."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def cosines(features, weight):
    return F.normalize(features) @ F.normalize(weight).T


def one_hot(labels, classes):
    return F.one_hot(labels, classes).bool()


def log_sum_of_others(cos, labels, scale):
    """ln sum over c != y_i of exp(scale cos_ic), one sample after the other."""
    rows = [
        torch.logsumexp(scale * torch.cat([row[:label], row[label + 1 :]]), 0)
        for row, label in zip(cos, labels.tolist(), strict=True)
    ]
    return torch.stack(rows)


def madacos(cos, labels, rho=0.02, floor=32.0, ceiling=math.inf, training=True):
    """Logits, scale, margin and median."""
    with torch.no_grad():
        target = cos[torch.arange(len(cos)), labels]
        median, sample = torch.median(target, 0)
        scale = min(max(floor, math.log(9_999_999 * (1 - rho) / rho) / (1 - float(median))), ceiling)
        log_others = log_sum_of_others(cos, labels, scale)[sample]
        margin = (
            max(0.0, float(median - (log_others + math.log(rho / (1 - rho))) / scale)) if training else 0.0
        )
    logits = scale * torch.where(one_hot(labels, cos.shape[1]), cos - margin, cos)
    return logits, scale, margin, float(median)


def softmax(cos, labels, scale):
    return scale * cos


def cosface(cos, labels, scale, margin):
    return scale * torch.where(one_hot(labels, cos.shape[1]), cos - margin, cos)


def arcface(cos, labels, scale, margin):
    angle = torch.acos(cos.clamp(-1 + 1e-12, 1 - 1e-12))
    turned = torch.where(angle < math.pi - margin, torch.cos(angle + margin), cos - margin * math.sin(margin))
    return scale * torch.where(one_hot(labels, cos.shape[1]), turned, cos)


def adacos_scale(cos, labels, scale):
    """The scale of a batch from the scale before."""
    with torch.no_grad():
        mean = torch.exp(log_sum_of_others(cos, labels, scale)).mean()
        angle = torch.acos(torch.median(cos[torch.arange(len(cos)), labels]).clamp(-1, 1))
        return max(1.0, float(torch.log(mean) / math.cos(min(math.pi / 4, float(angle)))))


def curricularface(cos, labels, scale, margin, progress):
    target = cos[torch.arange(len(cos)), labels]
    threshold = torch.cos(torch.acos(target.detach().clamp(-1, 1)) + margin)[:, None]
    others = torch.where(cos > threshold, cos * (progress + cos), cos)
    return torch.where(one_hot(labels, cos.shape[1]), arcface(cos, labels, scale, margin), scale * others)


def local_triplets(descriptors, attention, mu=0.1, ratio=0.9):
    """Loss (sum), pairs [(tuple, anchor position, positive position)], nearest negatives."""
    unit = F.normalize(descriptors, dim=-1, eps=1e-6)
    loss, pairs, negatives = descriptors.sum() * 0, [], []
    for number, pictures in enumerate(unit):
        anchor, positive = pictures[0], pictures[1]
        count = len(anchor)

        def squared(left, right):
            return float(((left - right) ** 2).sum().detach())

        table = [[squared(a, p) for p in positive] for a in anchor]
        by_attention = sorted(range(count), key=lambda k, row=number: (-float(attention[row, 1, k]), k))
        for p in sorted(by_attention[: count // 2]):
            column = [table[a][p] for a in range(count)]
            a = min(range(count), key=lambda k, column=column: (column[k], k))
            back = min(range(count), key=lambda k, a=a: (table[a][k], k))
            first, second = sorted(column)[:2]
            if back != p or second == 0 or math.sqrt(first) / math.sqrt(second) > ratio:
                continue
            pairs.append((number, a, p))
            chosen = []
            for negative in pictures[2:]:
                away = [squared(anchor[a], n) for n in negative]
                n = min(range(count), key=lambda k, away=away: (away[k], k))
                chosen.append(n)
                hinge = ((anchor[a] - positive[p]) ** 2).sum() - ((anchor[a] - negative[n]) ** 2).sum() + mu
                loss = loss + torch.clamp(hinge, min=0)
            negatives.append(chosen)
    return loss, pairs, negatives
