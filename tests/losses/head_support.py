"""Batches for cosine heads, and one step of a head."""

from __future__ import annotations

import slow_losses as slow
import torch
import torch.nn.functional as F

from cfcd import losses


def make_batch(seed, samples, classes, dim, noise=0.5):
    """Weights of any length, and features of any length around the weights of their classes; float64."""
    maker = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=maker, dtype=torch.float64)

    weight = draw(classes, dim) * draw(classes, 1).exp()
    labels = torch.randint(classes, (samples,), generator=maker)
    features = F.normalize(F.normalize(weight)[labels] + noise * F.normalize(draw(samples, dim)))
    return features * draw(samples, 1).exp(), weight, labels


def with_weight(head, weight):
    head.to(weight.dtype)
    with torch.no_grad():
        head.weight.copy_(weight)
    return head


def make(kind, weight, **settings):
    return with_weight(getattr(losses, kind)(weight.shape[1], weight.shape[0], **settings), weight)


def run(head, features, labels):
    """Everything a step gives: the output, and the gradients of features and weight."""
    features = features.detach().clone().requires_grad_()
    head.weight.grad = None
    output = head(features, labels, keep_logits=True)
    output.loss.backward()
    return output, features.grad, head.weight.grad


def plain_run(logits_of, features, weight, labels):
    features, weight = (tensor.detach().clone().requires_grad_() for tensor in (features, weight))
    logits = logits_of(slow.cosines(features, weight), labels)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    return logits, loss, features.grad, weight.grad


def assert_same(left, right, tolerance=1e-9):
    left, right = left.detach(), right.detach()
    torch.testing.assert_close(left, right, rtol=0, atol=tolerance * max(1e-9, float(right.abs().max())))
