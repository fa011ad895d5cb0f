"""Recipe -> network, head and optimiser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from cfcd.errors import UsageError
from cfcd.losses import AdaCos, ArcFace, CosFace, CurricularFace, MadaCos, Softmax
from cfcd.losses.cosine_head import CosineHead
from cfcd.model import create_model
from cfcd.model.config import Preprocessing, Whitening
from cfcd.model.network import DescriptorNet
from cfcd.training.network import Frozen, TrainingNet
from cfcd.training.precision import choose_precision

if TYPE_CHECKING:
    from cfcd.training.recipe import OptimizerRecipe, PhaseRecipe, Recipe

HEADS: dict[str, type[CosineHead]] = {
    "madacos": MadaCos,
    "softmax": Softmax,
    "cosface": CosFace,
    "arcface": ArcFace,
    "adacos": AdaCos,
    "curricularface": CurricularFace,
}


@dataclass(frozen=True)
class Built:
    """Hold a network to train, what goes with it in use, and where its weights come from."""

    net: TrainingNet
    preprocessing: Preprocessing
    origin: dict[str, Any]


def build(recipe: Recipe, classes: int, device: torch.device) -> Built:
    """Build the network a recipe describes, on a device; random weights come from torch's random state.

    Raises:
        ModelError: The backbone or its weights cannot be had.
        UsageError: Values of the recipe do not go together with this backbone or device.
    """
    wanted, whitening = recipe.model, recipe.whitening
    learned = whitening.kind == "learned"
    made = create_model(
        wanted.backbone,
        weights=None if wanted.weights == "random" else wanted.weights,
        p=wanted.p,
        long_side=wanted.long_side,
        scales=wanted.scales,
        seed=recipe.seed,
    )
    net = made.net
    if recipe.augment.size % made.preprocessing.side_multiple:
        raise UsageError(
            f"augment.size is {recipe.augment.size}, but {wanted.backbone} takes sides that are multiples of "
            f"{made.preprocessing.side_multiple}.",
            f"Give a multiple of {made.preprocessing.side_multiple}.",
        )
    if whitening.kind != "none":
        channels = net.config.channels
        dim = whitening.dim or channels
        if not learned and dim > channels:
            raise UsageError(
                f"whitening.dim is {dim}, but {wanted.backbone} has {channels} channels.",
                f"Give {channels} or less, or whitening.kind=learned.",
            )
        # A fitted whitening is cut to its length at the end.
        config = replace(net.config, whitening=Whitening(dim if learned else channels, batchnorm=learned))
        net = DescriptorNet(config, net.backbone)
    head = HEADS[recipe.head.kind](net.config.dim, classes, **recipe.head.options)
    frozen = Frozen(wanted.freeze, wanted.batchnorm == "frozen", whitening.kind == "metric")
    precision = choose_precision(recipe.run.precision, device)
    training = TrainingNet(net, head, made.preprocessing, frozen, precision, distill=recipe.distill > 0)
    training = training.to(device)
    if recipe.run.channels_last:
        training.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Built(training, made.preprocessing, made.training)


def build_optimizer(net: TrainingNet, phase: PhaseRecipe, recipe: OptimizerRecipe) -> torch.optim.SGD:
    """Make the optimiser of a phase; the class weights may decay less than the network's."""
    heads = {id(parameter) for parameter in net.head.parameters()}
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) not in heads], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if id(p) in heads], "weight_decay": recipe.head_weight_decay},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=phase.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
    )
