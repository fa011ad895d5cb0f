"""Steps against gradients put together by hand, for whatever a step is split into."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")
pytest.importorskip("accelerate", reason="the light install has no accelerate")

from cfcd.errors import TrainingError  # noqa: E402
from cfcd.losses import local_descriptors, local_triplet_loss  # noqa: E402
from cfcd.training.build import build_optimizer  # noqa: E402
from cfcd.training.crops import Crops  # noqa: E402
from cfcd.training.step import Stepper, check_finite  # noqa: E402

if TYPE_CHECKING:
    from cfcd.training.crew import Crew
    from cfcd.training.network import TrainingNet
    from cfcd.training.recipe import Recipe
    from tests.training.conftest import TinyBuilt, TinyRecipe

# No statistics of the batch anywhere, and everything but the whitening is trained.
EVEN = {
    "head.kind": "softmax",
    "model.freeze": 15,
    "distill": 3.0,
    "fine.weight": 5.0,
    "fine.margin": 1.0,
    "fine.ratio": 0.97,
}
Make = Callable[..., Stepper]
Gradients = dict[str, torch.Tensor]


@pytest.fixture
def make(tiny: TinyRecipe, built: TinyBuilt, crew: Crew) -> Make:
    """Make a stepper for the fine phase, or for the coarse one."""

    def stepper(options: dict[str, object], *, fine: bool = False, crew: Any = crew) -> Stepper:
        recipe = tiny(EVEN | options)
        net = built(recipe).net
        with torch.no_grad():
            net.centre.fill_(0.3)
            # Away from the start, so that the distillation has a gradient.
            net.net.backbone.head.norm.weight.mul_(1.5)
            net.net.backbone.head.norm.bias.sub_(0.1)
        settings = recipe.fine if fine else recipe.coarse
        optimizer = build_optimizer(net, settings, recipe.optimizer)
        return Stepper(net, net, optimizer, crew, recipe, recipe.fine if fine else None)

    return stepper


def gradients(net: TrainingNet) -> Gradients:
    return {
        name: parameter.grad.clone()
        for name, parameter in net.named_parameters()
        if parameter.grad is not None
    }


def taken(stepper: Stepper, crops: Crops) -> Gradients:
    """Take a step that moves nothing, and give the gradients it was taken with."""
    stepper.take(crops, 0.0)
    return gradients(stepper.net)


def by_hand(net: TrainingNet, crops: Crops, recipe: Recipe, parts: int = 1, fine: bool = True) -> Gradients:
    """Gradients of the whole batch at once; a mean of the triplets is taken part by part."""
    net.zero_grad()
    pixels, labels = torch.from_numpy(crops.pixels), torch.from_numpy(crops.labels)
    losses = net(pixels, labels)
    loss = losses.classification + recipe.distill * losses.distillation
    if fine:
        maps = net.net.last_map((pixels.permute(0, 3, 1, 2).float() - 127) / 128)
        settings = recipe.fine
        for part in local_descriptors(maps, settings.tuple_size).chunk(parts):
            found = local_triplet_loss(
                part, mu=settings.margin, ratio=settings.ratio, reduction=settings.reduction
            )
            assert found.accepted.sum() > 0
            share = parts if settings.reduction == "mean" else 1
            loss = loss + settings.weight * found.loss / share
    loss.backward()
    return gradients(net)


def assert_close(found: Gradients, expected: Gradients, rtol: float = 1e-3) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        largest = float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=rtol * 0.1 * largest, msg=name)


def test_the_parts_of_a_batch_are_averaged(make: Make, crops: Crops) -> None:
    whole = make({"optimizer.accumulate": 1})
    found = taken(whole, crops)
    assert_close(found, by_hand(whole.net, crops, whole.recipe, fine=False))
    assert {"head.weight", "net.backbone.head.conv.weight"} <= found.keys()
    assert_close(taken(make({"optimizer.accumulate": 2}), crops), found)
    assert_close(taken(make({"optimizer.accumulate": 4, "fine.epochs": 0}), crops), found)


def test_distillation_counts_as_often_as_asked(make: Make, crops: Crops) -> None:
    once, twice, without = (taken(make({"distill": weight}), crops) for weight in (3.0, 6.0, 0.0))
    assert_close(
        {name: twice[name] - once[name] for name in once if "backbone" in name},
        {name: once[name] - without[name] for name in once if "backbone" in name},
        rtol=1e-2,
    )
    assert once["net.backbone.head.conv.weight"].allclose(without["net.backbone.head.conv.weight"]) is False


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("parts", [1, 2])
def test_triplets_are_reduced_over_the_whole_batch(
    make: Make, crops: Crops, reduction: str, parts: int
) -> None:
    stepper = make({"fine.reduction": reduction, "optimizer.accumulate": parts}, fine=True)
    found = taken(stepper, crops)
    assert_close(found, by_hand(stepper.net, crops, stepper.recipe, parts))
    # They are felt: the same without them is something else.
    name = "net.backbone.head.conv.weight"
    rest = by_hand(stepper.net, crops, stepper.recipe, fine=False)[name]
    assert float((found[name] - rest).norm() / rest.norm()) > 0.02


class OneOfTwo:
    """A process whose partner's pairs are known: what a crew of two does, without a second process."""

    processes = 2
    device = torch.device("cpu")

    def __init__(self, partners: int = 0) -> None:
        self.partners = partners

    def add_up(self, value: torch.Tensor) -> torch.Tensor:
        return value + self.partners

    def apart(self, _module: object, *, wanted: bool) -> nullcontext[None]:
        return nullcontext()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_processes_that_average_gradients_take_the_step_of_one(
    make: Make, crops: Crops, reduction: str
) -> None:
    """One tuple each, with unlike numbers of pairs; then the average that DDP would take."""
    options = {"fine.reduction": reduction, "fine.margin": 1.0}
    pixels = crops.pixels.copy()
    pixels[5] = pixels[5, ::-1]  # fewer matches in the second tuple
    crops = Crops(pixels, crops.images, crops.labels)
    single = make(options, fine=True)
    expected = by_hand(single.net, crops, single.recipe)
    halves = [Crops(crops.pixels[s], crops.images[s], crops.labels[s]) for s in (slice(4), slice(4, 8))]
    counts = [
        int(
            single.net(
                torch.from_numpy(h.pixels), torch.from_numpy(h.labels), single.fine
            ).triplets.accepted.sum()
        )
        for h in halves
    ]
    assert counts[0] != counts[1]
    assert min(counts) > 0
    ours = [
        taken(make(options, fine=True, crew=OneOfTwo(partners)), half)
        for half, partners in zip(halves, counts[::-1], strict=True)
    ]
    assert_close({name: (ours[0][name] + ours[1][name]) / 2 for name in ours[0]}, expected)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_without_a_pair_the_step_is_that_of_the_other_losses(
    make: Make, crops: Crops, crew: Crew, reduction: str
) -> None:
    stepper = make({"fine.reduction": reduction, "fine.ratio": 1e-9}, fine=True)
    row = stepper.take(crops, 0.0).read(crew, fine=True)
    assert (row["triplets"], row["accepted"], row["active"]) == (0, 0, 0)
    assert row["loss"] == pytest.approx(row["classification"] + 3.0 * row["distillation"], rel=1e-5)
    found = gradients(stepper.net)
    assert_close(found, by_hand(stepper.net, crops, stepper.recipe, fine=False))


@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_reported(make: Make, crops: Crops, crew: Crew, parts: int) -> None:
    stepper = make({"optimizer.accumulate": parts}, fine=True)
    row = stepper.take(crops, 0.0).read(crew, fine=True)
    pixels, labels = torch.from_numpy(crops.pixels), torch.from_numpy(crops.labels)
    losses = stepper.net(pixels, labels, stepper.fine)
    halves = [stepper.net(*half) for half in zip(pixels.chunk(parts), labels.chunk(parts), strict=True)]
    expected = {
        "classification": losses.classification,
        "triplets": losses.triplets.loss,
        "distillation": losses.distillation,
        # of the batch that the head saw
        "median": sum(half.median for half in halves) / parts,
        "scale": losses.scale,
        "margin": losses.margin,
        "accepted": losses.triplets.accepted.sum(),
        "active": losses.triplets.active,
    }
    expected["loss"] = (
        expected["classification"] + 3.0 * expected["distillation"] + 5.0 * expected["triplets"]
    )
    assert row.keys() == expected.keys()
    for name, value in expected.items():
        assert row[name] == pytest.approx(float(value.detach()), rel=1e-4), name
    assert row["accepted"] > 0
    assert row["active"] > 0


def test_the_coarse_phase_reports_no_triplets(make: Make, crops: Crops, crew: Crew) -> None:
    row = make({}).take(crops, 0.0).read(crew, fine=False)
    assert {name for name, value in row.items() if value is None} == {"triplets", "accepted", "active"}
    assert row["loss"] == pytest.approx(row["classification"] + 3.0 * row["distillation"], rel=1e-5)


def test_reports_are_averaged_over_processes_and_pairs_added(make: Make, crops: Crops, crew: Crew) -> None:
    class Two(OneOfTwo):
        def add_up(self, value: torch.Tensor) -> torch.Tensor:
            return 2 * value  # the partner has the same

    measured = make({}, fine=True).take(crops, 0.0)
    one, two = measured.read(crew, fine=True), measured.read(Two(), fine=True)
    for name, value in one.items():
        assert two[name] == pytest.approx(2 * value if name in ("accepted", "active") else value), name


def test_a_step_goes_by_rate_decay_and_momentum(make: Make, crops: Crops) -> None:
    """The first step of SGD with Nesterov momentum 0.5: 1.5 times rate times gradient and decay."""
    options = {
        "optimizer.momentum": 0.5,
        "optimizer.weight_decay": 0.2,
        "optimizer.head_weight_decay": 0.03,
        "coarse.lr": 0.9,  # the rate that is given counts, not this one
    }
    stepper = make(options)
    before = {name: value.detach().clone() for name, value in stepper.net.named_parameters()}
    pulls = by_hand(stepper.net, crops, stepper.recipe, fine=False)
    stepper.take(crops, 0.01)
    for name, value in stepper.net.named_parameters():
        if name not in pulls:
            assert torch.equal(value, before[name]), name
            continue
        decay = 0.03 if name == "head.weight" else 0.2
        step = -0.01 * 1.5 * (pulls[name] + decay * before[name])
        torch.testing.assert_close(value.detach() - before[name], step, rtol=1e-2, atol=1e-6, msg=name)


def test_gradients_of_a_step_do_not_reach_the_next(make: Make, crops: Crops) -> None:
    stepper = make({"optimizer.accumulate": 2})
    first = taken(stepper, crops)
    assert_close(taken(stepper, crops), first)


def length(some: Gradients) -> float:
    return float(torch.cat([value.flatten() for value in some.values()]).norm())


def test_clipping_shortens_without_turning(make: Make, crops: Crops) -> None:
    free = taken(make({"optimizer.accumulate": 2}), crops)
    limit = 0.25 * length(free)
    clipped = taken(make({"optimizer.clip": limit, "optimizer.accumulate": 2}), crops)
    assert length(clipped) == pytest.approx(limit, rel=1e-3)
    assert_close({name: 4 * value for name, value in clipped.items()}, free)
    assert_close(taken(make({"optimizer.clip": 2 * length(free)}), crops), free)


def test_a_stored_state_goes_on_bit_for_bit(make: Make, crops: Crops) -> None:
    stepper = make({})
    stepper.take(crops, 0.01)
    weights = {name: value.clone() for name, value in stepper.net.state_dict().items()}
    state = copy.deepcopy(stepper.state())  # as a file keeps it
    resumed = make({})
    resumed.net.load_state_dict(weights)
    resumed.load(state)
    fresh = make({})
    fresh.net.load_state_dict(weights)
    for each in (stepper, resumed, fresh):
        each.take(crops, 0.01)
    after = stepper.net.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in resumed.net.state_dict().items())
    assert not all(torch.equal(value, after[name]) for name, value in fresh.net.state_dict().items())


class Failing(torch.nn.Module):
    """What stands in for a network that fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, *_given: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    ],
)
def test_too_little_memory_is_told_with_what_to_lower(make: Make, crops: Crops, error: Exception) -> None:
    stepper = make({"optimizer.accumulate": 2})
    stepper.shared = Failing(error)
    with pytest.raises(TrainingError) as caught:
        stepper.take(crops, 0.1)
    assert "does not suffice for 4 crops of 64 x 64 pixels at a time" in caught.value.what
    assert "optimizer.accumulate" in caught.value.mend
    assert "augment.size" in caught.value.mend
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("memory")]
)
def test_other_failures_come_through(make: Make, crops: Crops, error: Exception) -> None:
    stepper = make({})
    stepper.shared = Failing(error)
    with pytest.raises(type(error)) as caught:
        stepper.take(crops, 0.1)
    assert caught.value is error


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf"), None])
def test_a_loss_that_is_no_number_stops_the_run(loss: float | None) -> None:
    with pytest.raises(TrainingError) as caught:
        check_finite({"loss": loss}, "fine", 12, 0.0123)
    assert caught.value.what == f"The loss became {loss} in step 12 (fine phase, learning rate 0.012)."
    assert "Lower fine.lr or set optimizer.clip" in caught.value.mend


def test_any_other_loss_is_fine() -> None:
    for loss in (0.0, -1.0, 1e30):
        check_finite({"loss": loss}, "coarse", 1, 0.1)


def test_a_step_that_diverges_is_seen(make: Make, crops: Crops, crew: Crew) -> None:
    stepper = make({})
    with torch.no_grad():
        stepper.net.head.weight.fill_(np.nan)
    row = stepper.take(crops, 0.0).read(crew, fine=False)
    with pytest.raises(TrainingError, match="became nan in step 1"):
        check_finite(row, "coarse", 1, 0.0)
