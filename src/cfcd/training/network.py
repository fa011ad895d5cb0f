"""The network in training: frozen and trained stages, the head, and the start network to stay near."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfcd.errors import UsageError
from cfcd.losses import LocalTriplets, local_descriptors, local_triplet_loss
from cfcd.losses.cosine_head import CosineHead
from cfcd.model.config import Whitening
from cfcd.training.precision import Precision, autocast

if TYPE_CHECKING:
    from cfcd.model import Preprocessing
    from cfcd.model.network import DescriptorNet
    from cfcd.training.metric import Metric
    from cfcd.training.recipe import FineRecipe


class Losses(NamedTuple):
    """Hold the parts of one batch's loss, all attached to the graph, and what to report beside them.

    Attributes:
        classification: () mean cross-entropy of the head.
        distillation: () mean 1 - cosine to the start network; 0 without distillation.
        triplets: The local triplets of the batch's tuples, None in the coarse phase.
        scale: () of the head.
        margin: () of the head.
        median: () lower median of the target cosines of the global batch.
    """

    classification: Tensor
    distillation: Tensor
    triplets: LocalTriplets | None
    scale: Tensor
    margin: Tensor
    median: Tensor


@dataclass(frozen=True)
class Frozen:
    """Say what of the network is not trained.

    Attributes:
        stages: How many of the backbone's stages, from the input.
        batchnorm: Keep the statistics of the backbone's batch normalisations as they are.
        whitening: Keep the whitening layer as it is.
    """

    stages: int
    batchnorm: bool
    whitening: bool


class TrainingNet(nn.Module):
    """Compute losses from pixels; what processes synchronise and checkpoints keep.

    Args:
        net: The descriptor network, changed in place.
        head: Classifies its descriptors.
        preprocessing: How pixels are normalised.
        frozen: What is not trained.
        precision: In which types the layers compute.
        distill: Whether to keep the start network and measure the distance to it.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor

    def __init__(
        self,
        net: DescriptorNet,
        head: CosineHead,
        preprocessing: Preprocessing,
        frozen: Frozen,
        precision: Precision,
        *,
        distill: bool,
    ) -> None:
        """Freeze what is to be frozen, and copy the start network's trained stages if they are needed."""
        super().__init__()
        self.net, self.head = net, head
        self.frozen, self.precision = frozen, precision
        self.flip = preprocessing.channel_order == "BGR"
        for name, value in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("centre", torch.zeros(net.config.channels))
        stages: list[nn.Module] = net.backbone.stages()  # type: ignore[operator]
        if frozen.stages > len(stages):
            raise UsageError(
                f"model.freeze is {frozen.stages}, but the backbone has {len(stages)} stages.",
                f"Freeze at most {len(stages) - 1} to train some of it, or {len(stages)} for the head only.",
            )
        # Plain lists: the modules are registered where they belong.
        self._frozen, self._trained = stages[: frozen.stages], stages[frozen.stages :]
        self.start = copy.deepcopy(nn.ModuleList(self._trained)) if distill else None
        self._still = [*self._frozen, *(self.start or []), *([net.whitening] if frozen.whitening else [])]
        for module in self._still:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> TrainingNet:
        """Switch to training, all but what is frozen."""
        super().train(mode)
        for module in self._still:
            module.eval()
        if self.frozen.batchnorm:
            for module in self.net.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def set_metric(self, metric: Metric) -> None:
        """Write a fitted whitening into the linear layer, which becomes another if the length is another."""
        linear = self.net.whitening.get_submodule("linear")
        assert isinstance(linear, nn.Linear)
        dim, channels = metric.weight.shape
        if dim != linear.out_features:
            linear = nn.Linear(channels, dim, device=linear.weight.device).requires_grad_(False)
            self.net.whitening.set_submodule("linear", linear)
            self.net.config = replace(self.net.config, whitening=Whitening(dim, batchnorm=False))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(metric.weight))
            linear.bias.copy_(torch.from_numpy(metric.bias))

    def forward(self, pixels: Tensor, labels: Tensor, fine: FineRecipe | None = None) -> Losses:
        """Compute the losses of (B, H, W, 3) uint8 RGB pixels with (B,) int64 labels.

        Args:
            pixels: In the fine phase tuple after tuple: anchor, positive, negatives.
            labels: Of every picture.
            fine: How local triplets are taken, None in the coarse phase.
        """
        looked, before = self.look(pixels)
        with autocast(pixels.device, self.precision.trained):
            # Under fp32 the frozen stages may still have given bf16.
            mixed = self.precision.trained != torch.float32
            maps = _run(self._trained, looked if mixed else looked.float())
            pooled = self.net.pooling(maps)
        descriptors = self.net.whitening(pooled)
        found = self.head(descriptors, labels)
        distillation = pooled.new_zeros(())
        if before is not None:
            # Centred, because uncentred features are all alike: their cosines hide what changes.
            distillation = 1 - F.cosine_similarity(pooled - self.centre, before - self.centre).mean()
        triplets = None
        if fine is not None:
            triplets = local_triplet_loss(
                local_descriptors(maps, fine.tuple_size),
                mu=fine.margin,
                ratio=fine.ratio,
                reduction="sum",  # reduced over all parts and processes by whoever knows them
            )
        return Losses(found.loss, distillation, triplets, found.scale, found.margin, found.median)

    @torch.no_grad()
    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Run what is not trained over (B, H, W, 3) uint8 RGB pixels.

        Returns:
            What the first trained stage gets, and the pooled features (B, C) float32 of the start network, if
            it is kept.
        """
        looked = self.frozen_map(pixels)
        with autocast(pixels.device, self.precision.frozen):
            return looked, None if self.start is None else self.net.pooling(_run(self.start, looked))

    @torch.no_grad()
    def frozen_map(self, pixels: Tensor) -> Tensor:
        """Run the frozen stages over (B, H, W, 3) uint8 RGB pixels."""
        with autocast(pixels.device, self.precision.frozen):
            return _run(self._frozen, self._normalised(pixels))

    @torch.no_grad()
    def maps(self, pixels: Tensor) -> Tensor:
        """Compute the last maps (B, C, h, w) of (B, H, W, 3) uint8 RGB pixels; for evaluation mode."""
        looked = self.frozen_map(pixels)
        with autocast(pixels.device, self.precision.frozen):
            return _run(self._trained, looked)

    @torch.no_grad()
    def pooled(self, pixels: Tensor) -> Tensor:
        """Pool the last maps of (B, H, W, 3) uint8 RGB pixels into (B, C) float32; for evaluation mode."""
        pooled: Tensor = self.net.pooling(self.maps(pixels))
        return pooled

    @torch.no_grad()
    def descriptors(self, pooled: Tensor) -> Tensor:
        """Map pooled features (B, C) to descriptors (B, D), unit rows; for evaluation mode."""
        return F.normalize(self.net.whitening(pooled))

    def _normalised(self, pixels: Tensor) -> Tensor:
        x = pixels.permute(0, 3, 1, 2).float()  # a view of RGB triples: channels_last already
        x = x[:, [2, 1, 0]] if self.flip else x
        return (x - self.mean) / self.std


def _run(stages: Iterable[nn.Module], x: Tensor) -> Tensor:
    for stage in stages:
        x = stage(x)
    return x
