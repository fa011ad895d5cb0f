"""The network in training: what moves, what stays, and losses against their parts put together by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.errors import UsageError  # noqa: E402
from cfcd.losses import Softmax, local_descriptors, local_triplet_loss  # noqa: E402
from cfcd.model.config import Network, Preprocessing, Whitening  # noqa: E402
from cfcd.model.network import DescriptorNet  # noqa: E402
from cfcd.training.metric import Metric  # noqa: E402
from cfcd.training.network import Frozen, Losses, TrainingNet  # noqa: E402
from cfcd.training.precision import Precision  # noqa: E402

if TYPE_CHECKING:
    from cfcd.training.crops import Crops
    from tests.training.conftest import TinyBuilt, TinyRecipe

FP32 = Precision(torch.float32, torch.float32)
LEARNED = {"whitening.kind": "learned"}
Given = tuple[torch.Tensor, torch.Tensor]
Make = Callable[..., TrainingNet]


@pytest.fixture
def given(crops: Crops) -> Given:
    return torch.from_numpy(crops.pixels), torch.from_numpy(crops.labels)


@pytest.fixture
def make(tiny: TinyRecipe, built: TinyBuilt) -> Make:
    return lambda options=(): built(tiny(dict(options))).net


def step(net: TrainingNet, given: Given) -> Losses:
    """Take a step with everything that could move what it should not: momentum, weight decay, a high rate."""
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=0.1)
    losses = net(*given)
    (losses.classification + losses.distillation).backward()
    optimizer.step()
    return losses


def state(net: TrainingNet) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def stage_of(name: str) -> int:
    """Say which of the 18 stages of Lite0 a tensor belongs to."""
    part, number = name.split(".")[2:4]
    return {"stem": 0, "head": 17}.get(part) or (0 if part == "stem" else int(number) + 1)


def backbone(names: Iterator[str] | dict[str, torch.Tensor]) -> list[str]:
    return [name for name in names if name.startswith("net.backbone.")]


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Compare roughly: the length of the difference in lengths of what is expected."""
    return float((found.float() - expected).norm() / expected.norm())


def is_statistic(name: str) -> bool:
    return name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("freeze", [0, 1, 17])
@pytest.mark.parametrize("batchnorm", ["frozen", "trained"])
def test_frozen_stages_stay_bit_for_bit(make: Make, given: Given, freeze: int, batchnorm: str) -> None:
    net = make({"model.freeze": freeze, "model.batchnorm": batchnorm})
    before = state(net)
    step(net, given)
    after = state(net)
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    for name in backbone(before):
        stays = stage_of(name) < freeze or (is_statistic(name) and batchnorm == "frozen")
        assert torch.equal(before[name], after[name]) == stays, name
        if name in gradients:
            assert (gradients[name] is None) == (stage_of(name) < freeze), name


def test_a_fitted_whitening_stays_and_the_head_moves(make: Make, given: Given) -> None:
    net = make()
    before = state(net)
    step(net, given)
    after = state(net)
    assert torch.equal(before["net.whitening.linear.weight"], after["net.whitening.linear.weight"])
    assert torch.equal(before["net.whitening.linear.bias"], after["net.whitening.linear.bias"])
    assert not torch.equal(before["head.weight"], after["head.weight"])


@pytest.mark.parametrize("batchnorm", ["frozen", "trained"])
def test_a_learned_whitening_moves_with_its_statistics(make: Make, given: Given, batchnorm: str) -> None:
    net = make(LEARNED | {"model.batchnorm": batchnorm})
    before = state(net)
    step(net, given)
    moved = [name for name, value in state(net).items() if not torch.equal(before[name], value)]
    assert {name for name in before if name.startswith("net.whitening.")} <= set(moved)
    assert sum(name.startswith("net.whitening.batchnorm.running_") for name in moved) == 2


def test_evaluation_changes_no_statistic(make: Make, given: Given) -> None:
    net = make(LEARNED | {"model.batchnorm": "trained"})
    before = state(net)
    net.eval()
    net.pooled(given[0])
    net(*given)
    assert all(torch.equal(before[name], value) for name, value in state(net).items())
    assert net.train() is net
    assert net.training


def test_modes_follow_what_is_frozen(make: Make) -> None:
    net = make({"model.freeze": 3, "model.batchnorm": "trained", "distill": 1})
    norms = {
        name: module.training
        for name, module in net.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    }
    own = {name: mode for name, mode in norms.items() if name.startswith("net.")}
    assert {stage_of(name) for name, mode in own.items() if not mode} == {0, 1, 2}
    assert {stage_of(name) for name, mode in own.items() if mode} == set(range(3, 18))
    assert not any(mode for name, mode in norms.items() if name.startswith("start."))
    net.eval()
    assert not any(module.training for module in net.modules())


def test_distillation_starts_at_nothing_and_grows(make: Make, given: Given) -> None:
    net = make({"distill": 1})
    start = {name: value for name, value in state(net).items() if name.startswith("start.")}
    assert start
    first = net(*given)
    assert float(first.distillation.detach()) == pytest.approx(0, abs=1e-6)
    for _ in range(2):
        step(net, given)
    assert float(net(*given).distillation.detach()) > 1e-4
    after = state(net)
    assert all(torch.equal(value, after[name]) for name, value in start.items())
    assert not any(parameter.requires_grad for parameter in net.start.parameters())


def test_without_distillation_there_is_no_second_network(make: Make, given: Given) -> None:
    net = make({"distill": 0})
    assert net.start is None
    assert not any(name.startswith("start.") for name in net.state_dict())
    for _ in range(2):
        losses = step(net, given)
    assert float(losses.distillation) == 0


def test_losses_are_their_parts_put_together(make: Make, tiny: TinyRecipe, given: Given) -> None:
    """From pixels to every loss by the plain network, without stages, autocast or shared computation."""
    net = make({"distill": 1})
    fine = tiny({"fine.ratio": 0.95, "fine.margin": 0.3}).fine
    with torch.no_grad():
        net.centre.uniform_(0, 0.5)
    pixels, labels = given
    x = (pixels.permute(0, 3, 1, 2).float() - 127) / 128
    before = net.net.pooling(net.net.last_map(x)).detach()
    with torch.no_grad():
        for parameter in net.net.backbone.head.parameters():
            parameter.mul_(1 + 0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    losses = net(pixels, labels, fine)

    maps = net.net.last_map(x)
    assert maps.shape == (8, 32, 2, 2)
    pooled = maps.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
    linear = net.net.whitening.linear
    head = net.head(pooled @ linear.weight.T + linear.bias, labels)
    a, b = pooled - net.centre, before - net.centre
    distillation = 1 - ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean()
    triplets = local_triplet_loss(local_descriptors(maps, 4), mu=0.3, ratio=0.95, reduction="sum")
    assert triplets.accepted.sum() > 0
    for found, expected in (
        (losses.classification, head.loss),
        (losses.distillation, distillation),
        (losses.triplets.loss, triplets.loss),
        (losses.scale, head.scale),
        (losses.margin, head.margin),
        (losses.median, head.median),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(losses.triplets.accepted, triplets.accepted)
    assert float(distillation.detach()) > 1e-3

    # The gradients agree as well, each loss on its own.
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for found, expected in (
        (losses.classification, head.loss),
        (losses.distillation, distillation),
        (losses.triplets.loss, triplets.loss),
    ):
        got, want = (
            torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
            for loss in (found, expected)
        )
        for one, other in zip(got, want, strict=True):
            if other is None:
                assert one is None or not one.any()
            else:
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def test_triplets_teach_the_backbone_in_the_fine_phase_only(
    make: Make, tiny: TinyRecipe, given: Given
) -> None:
    net = make({"model.freeze": 16})
    assert net(*given).triplets is None
    triplets = net(*given, tiny({"fine.margin": 2}).fine).triplets
    assert triplets.active > 0
    triplets.loss.backward()
    for name, parameter in net.named_parameters():
        trained = name.startswith("net.backbone") and stage_of(name) >= 16
        assert (parameter.grad is not None and bool(parameter.grad.any())) == trained, name


def test_without_a_pair_triplets_stay_attached(make: Make, tiny: TinyRecipe, given: Given) -> None:
    net = make({"model.freeze": 16})
    triplets = net(*given, tiny({"fine.ratio": 1e-9}).fine).triplets
    assert triplets.accepted.tolist() == [0, 0]
    triplets.loss.backward()
    gradients = [parameter.grad for parameter in net.net.backbone.head.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


@pytest.fixture
def two_orders(built: TinyBuilt) -> list[TrainingNet]:
    """The same thin network for pixels in RGB and in BGR."""
    nets = []
    for order in ("RGB", "BGR"):
        torch.manual_seed(0)
        config = Network("efficientnet_lite0", 32, whitening=Whitening(4, batchnorm=False))
        turned = slice(None, None, -1 if order == "BGR" else 1)
        mean, std = (110.0, 120.0, 130.0)[turned], (50.0, 60.0, 70.0)[turned]
        preprocessing = Preprocessing(order, mean, std, "box", 64, 32)
        net = DescriptorNet(config)
        if order == "BGR":
            with torch.no_grad():
                net.backbone.stem.conv.weight.copy_(net.backbone.stem.conv.weight.flip(1).clone())
        frozen = Frozen(0, batchnorm=True, whitening=False)
        nets.append(TrainingNet(net, Softmax(4, 3), preprocessing, frozen, FP32, distill=False))
    return nets


def test_blue_comes_first_where_the_network_wants_it(two_orders: list[TrainingNet], given: Given) -> None:
    """Turning the colours of the stem's weights and of mean and std turns those of the pixels."""
    rgb, bgr = two_orders
    pooled = rgb.eval().pooled(given[0])
    assert apart(bgr.eval().pooled(given[0]), pooled) < 1e-4
    assert apart(rgb.pooled(given[0].flip(3)), pooled) > 0.01
    torch.testing.assert_close(
        bgr.train()(*given).classification, rgb.train()(*given).classification, rtol=1e-4, atol=1e-5
    )


def test_pooled_features_are_those_of_the_plain_network(make: Make, given: Given) -> None:
    net = make({"model.freeze": 5}).eval()
    x = (given[0].permute(0, 3, 1, 2).float() - 127) / 128
    with torch.no_grad():
        maps = net.net.last_map(x)
        torch.testing.assert_close(net.maps(given[0]), maps, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(net.pooled(given[0]), net.net.pooling(maps), rtol=1e-5, atol=1e-5)
        described = net.descriptors(net.pooled(given[0]))
        g = net.net(x)
    torch.testing.assert_close(described, g / g.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert not described.requires_grad


def test_what_is_frozen_may_run_in_bf16_while_the_rest_is_exact(make: Make, given: Given) -> None:
    exact = make({"model.freeze": 12, "distill": 1})
    mixed = make({"model.freeze": 12, "distill": 1})
    mixed.precision = Precision(torch.bfloat16, torch.float32)
    looked, before = mixed.look(given[0])
    assert looked.dtype == torch.bfloat16
    assert before.dtype == torch.float32
    assert not looked.requires_grad
    kinds = []
    mixed.net.backbone.head.register_forward_hook(lambda _module, _given, out: kinds.append(out.dtype))
    mixed(*given)
    assert kinds == [torch.float32]
    assert apart(looked, exact.look(given[0])[0]) < 0.1
    assert mixed.pooled(given[0]).dtype == torch.float32
    assert apart(mixed.pooled(given[0]), exact.pooled(given[0])) < 0.1
    losses = mixed(*given)
    losses.classification.backward()
    assert {p.grad.dtype for p in mixed.parameters() if p.grad is not None} == {torch.float32}


def test_training_in_bf16_keeps_losses_and_gradients_in_fp32(
    make: Make, tiny: TinyRecipe, given: Given
) -> None:
    net = make({"run.precision": "bf16", "model.freeze": 12, "distill": 1})
    kinds = []
    net.net.backbone.head.register_forward_hook(lambda _module, _given, out: kinds.append(out.dtype))
    losses = net(*given, tiny({}).fine)
    assert kinds == [torch.bfloat16]
    parts = (losses.classification, losses.distillation, losses.triplets.loss)
    assert {part.dtype for part in parts} == {torch.float32}
    sum(parts).backward()
    assert {p.grad.dtype for p in net.parameters() if p.grad is not None} == {torch.float32}


def test_a_fitted_metric_becomes_the_whitening(make: Make) -> None:
    net = make().eval()
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 32)).astype(np.float32)
    metric = Metric(weight, rng.normal(size=8).astype(np.float32), np.zeros(32, np.float32))
    net.set_metric(metric)
    features = rng.uniform(0, 2, (5, 32)).astype(np.float32)
    np.testing.assert_allclose(
        net.descriptors(torch.from_numpy(features)).numpy(), metric(features), atol=1e-5
    )
    weight[:] = 0  # the network has its own copy
    assert net.net.whitening.linear.weight.any()


def test_everything_may_be_frozen_but_the_head(make: Make, given: Given) -> None:
    net = make({"model.freeze": 18, "distill": 1})
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["head.weight"]
    losses = step(net, given)
    assert float(losses.distillation) == pytest.approx(0, abs=1e-6)


def test_more_stages_than_there_are_cannot_be_frozen(make: Make) -> None:
    with pytest.raises(UsageError) as caught:
        make({"model.freeze": 19})
    assert "model.freeze is 19, but the backbone has 18 stages. Freeze at most 17" in str(caught.value)


def test_a_checkpoint_holds_what_changes_and_what_was_fitted(make: Make) -> None:
    net = make({"distill": 1, "model.freeze": 12})
    names = set(net.state_dict())
    assert {"centre", "head.weight", "net.whitening.linear.weight"} <= names
    assert {name for name in names if name.split(".")[0] not in ("net", "head", "start")} == {"centre"}
    # Only the trained stages have a copy.
    assert len({name.split(".")[1] for name in names if name.startswith("start.")}) == 6
