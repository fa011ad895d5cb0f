from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.errors import UsageError  # noqa: E402
from cfcd.training.build import HEADS, build, build_optimizer  # noqa: E402
from cfcd.training.network import Frozen, TrainingNet  # noqa: E402
from cfcd.training.recipe_head import HEAD_OPTIONS  # noqa: E402

if TYPE_CHECKING:
    from tests.training.conftest import TinyBuilt, TinyRecipe

CPU = torch.device("cpu")
CHANNELS = 32  # of the thin Lite0


@pytest.mark.parametrize(
    ("options", "dim", "layers"),
    [
        ({"whitening.dim": 8}, CHANNELS, ["linear"]),  # cut to its length after training
        ({"whitening.dim": None}, CHANNELS, ["linear"]),
        ({"whitening.kind": "learned", "whitening.dim": 8}, 8, ["linear", "batchnorm"]),
        ({"whitening.kind": "learned", "whitening.dim": 2 * CHANNELS}, 2 * CHANNELS, ["linear", "batchnorm"]),
        ({"whitening.kind": "none", "whitening.dim": None}, CHANNELS, []),
    ],
)
def test_whitening_and_head_fit(
    tiny: TinyRecipe, built: TinyBuilt, options: dict[str, object], dim: int, layers: list[str]
) -> None:
    net = built(tiny(options)).net
    assert [name for name, _ in net.net.whitening.named_children()] == layers
    assert net.net.config.dim == dim
    assert net.head.weight.shape == (3, dim)
    assert net.descriptors(torch.rand(2, CHANNELS)).shape == (2, dim)
    assert net.frozen.whitening == (options.get("whitening.kind") is None)


@pytest.mark.parametrize("kind", HEAD_OPTIONS)
def test_every_head_gets_its_options(tiny: TinyRecipe, built: TinyBuilt, kind: str) -> None:
    options = {"rho": 0.1, "floor": 20.0, "ceiling": 30.0, "scale": 12.5, "learn_scale": True, "margin": 0.25}
    options = {name: value for name, value in options.items() if name in HEAD_OPTIONS[kind]}
    assert set(options) == set(HEAD_OPTIONS[kind])
    values = {f"head.options.{name}": value for name, value in options.items()}
    head = built(tiny({"head.kind": kind} | values)).net.head
    assert type(head) is HEADS[kind]
    assert type(head).__name__.lower() == kind
    for name, value in options.items():
        found = isinstance(head.scale, torch.nn.Parameter) if name == "learn_scale" else getattr(head, name)
        assert float(found.detach() if isinstance(found, torch.Tensor) else found) == value


def test_the_recipe_reaches_network_and_preprocessing(tiny: TinyRecipe, built: TinyBuilt) -> None:
    options = {"model.p": 4.0, "model.long_side": 96, "model.scales": (0.7071, 1.0), "model.freeze": 2}
    made = built(tiny(options | {"model.batchnorm": "trained", "distill": 0.5, "run.precision": "bf16"}))
    assert made.net.net.pooling.p == made.net.net.config.p == 4
    assert made.preprocessing.long_side == 96
    assert made.preprocessing.scales == (0.7071, 1.0)
    assert made.net.frozen == Frozen(2, batchnorm=False, whitening=True)
    assert made.net.start is not None
    assert made.net.precision.trained == torch.bfloat16
    assert made.origin["weights"].startswith("random")


def test_the_seed_decides_the_backbone_and_torch_the_rest(tiny: TinyRecipe, built: TinyBuilt) -> None:
    def weights(seed: int, state: int) -> list[torch.Tensor]:
        torch.manual_seed(state)
        net = build(tiny({"seed": seed}), 3, CPU).net
        return [net.net.backbone.stem.conv.weight, net.net.whitening.linear.weight, net.head.weight]

    first = weights(1, 1)
    assert [torch.equal(*pair) for pair in zip(first, weights(1, 1), strict=True)] == [True] * 3
    assert [torch.equal(*pair) for pair in zip(first, weights(1, 2), strict=True)] == [True, False, False]
    assert [torch.equal(*pair) for pair in zip(first, weights(2, 1), strict=True)] == [False, True, True]


@pytest.mark.parametrize("wanted", [True, False])
def test_memory_layout(tiny: TinyRecipe, built: TinyBuilt, wanted: bool) -> None:
    net = built(tiny({"run.channels_last": wanted, "distill": 1, "model.freeze": 0})).net
    for conv in (net.net.backbone.stem.conv, net.start[0].conv):
        assert conv.weight.is_contiguous(memory_format=torch.channels_last) == wanted
        assert conv.weight.is_contiguous() != wanted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"augment.size": 80}, "augment.size is 80, but efficientnet_lite0 takes sides that are multiples"),
        ({"whitening.dim": CHANNELS + 1}, "whitening.dim is 33, but efficientnet_lite0 has 32 channels"),
        ({"run.precision": "fp16"}, "fp16 needs a GPU"),
        ({"model.freeze": 30}, "model.freeze is 30, but the backbone has 18 stages"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tiny: TinyRecipe, built: TinyBuilt, options: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        built(tiny(options))
    assert words in str(caught.value)


def groups(net: TrainingNet, optimizer: torch.optim.SGD) -> dict[str, float]:
    """Map names of parameters to their weight decay; one that comes twice would be lost in the count."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    listed = [
        (names[id(parameter)], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert len(dict(listed)) == len(listed)
    return dict(listed)


def test_class_weights_decay_apart(tiny: TinyRecipe, built: TinyBuilt) -> None:
    recipe = tiny(
        {
            "optimizer.weight_decay": 0.3,
            "optimizer.head_weight_decay": 0.05,
            "optimizer.momentum": 0.8,
            "optimizer.nesterov": False,
            "model.freeze": 5,
            "head.kind": "softmax",
            "head.options.learn_scale": True,
            "coarse.lr": 0.123,
            "fine.lr": 0.045,
        }
    )
    net = built(recipe).net
    optimizer = build_optimizer(net, recipe.coarse, recipe.optimizer)
    expected = {
        name: 0.05 if name.startswith("head.") else 0.3
        for name, parameter in net.named_parameters()
        if parameter.requires_grad
    }
    assert {"head.weight", "head.scale", "net.backbone.head.conv.weight"} <= set(expected)
    assert groups(net, optimizer) == expected
    assert {group["lr"] for group in optimizer.param_groups} == {0.123}
    assert {group["momentum"] for group in optimizer.param_groups} == {0.8}
    assert {group["nesterov"] for group in optimizer.param_groups} == {False}
    later = build_optimizer(net, recipe.fine, tiny({}).optimizer)
    assert {group["lr"] for group in later.param_groups} == {0.045}
    assert {group["nesterov"] for group in later.param_groups} == {True}


def test_nothing_but_the_head_to_train_is_one_group(tiny: TinyRecipe, built: TinyBuilt) -> None:
    recipe = tiny({"model.freeze": 18})
    net = built(recipe).net
    optimizer = build_optimizer(net, recipe.coarse, recipe.optimizer)
    assert len(optimizer.param_groups) == 1
    assert groups(net, optimizer) == {"head.weight": recipe.optimizer.head_weight_decay}
