from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.training.average import WeightAverage  # noqa: E402


@pytest.fixture
def net() -> torch.nn.Sequential:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    net[2].requires_grad_(False)
    return net


def moved(net: torch.nn.Module, step: int) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))


@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_equals_the_recurrence_number_by_number(net: torch.nn.Sequential, decay: float) -> None:
    average = WeightAverage(net, decay)
    slow = [float(number) for number in net[0].weight.detach().flatten()]
    for step in range(1, 30):
        moved(net, step)
        average.update(step)
        now = decay if decay < (1 + step) / (10 + step) else (1 + step) / (10 + step)
        new = [float(number) for number in net[0].weight.detach().flatten()]
        slow = [now * old + (1 - now) * number for old, number in zip(slow, new, strict=True)]
    assert average.averages["0.weight"].flatten().tolist() == pytest.approx(slow, rel=1e-5, abs=1e-6)


def test_only_what_is_trained_is_followed(net: torch.nn.Sequential) -> None:
    average = WeightAverage(net, 0.9)
    assert set(average.averages) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert not any(value.requires_grad for value in average.averages.values())


def test_starts_at_the_weights_and_keeps_its_own_copy(net: torch.nn.Sequential) -> None:
    average = WeightAverage(net, 0.9)
    before = net[0].weight.detach().clone()
    moved(net, 1)
    assert torch.equal(average.averages["0.weight"], before)


def test_applied_during_the_block_only(net: torch.nn.Sequential) -> None:
    average = WeightAverage(net, 0.9)
    moved(net, 1)
    average.update(1)
    parameter = net[0].weight
    trained, averaged = parameter.detach().clone(), average.averages["0.weight"].clone()
    frozen = net[2].weight.detach().clone()
    assert not torch.equal(trained, averaged)
    with average.applied():
        assert net[0].weight is parameter  # the optimiser holds it
        assert torch.equal(parameter, averaged)
        assert torch.equal(net[2].weight, frozen)
    assert torch.equal(parameter, trained)
    assert torch.equal(average.averages["0.weight"], averaged)


def test_put_back_whatever_happens_in_the_block(net: torch.nn.Sequential) -> None:
    average = WeightAverage(net, 0.9)
    moved(net, 1)
    average.update(1)
    trained, averaged = net[0].weight.detach().clone(), average.averages["0.weight"].clone()
    with pytest.raises(KeyboardInterrupt), average.applied():
        raise KeyboardInterrupt
    assert torch.equal(net[0].weight, trained)
    assert torch.equal(average.averages["0.weight"], averaged)


def test_loaded_averages_go_on_as_if_never_stored(net: torch.nn.Sequential) -> None:
    average = WeightAverage(net, 0.9)
    moved(net, 1)
    average.update(1)
    stored = {name: value.clone() for name, value in average.averages.items()}
    resumed = WeightAverage(net, 0.9)
    resumed.load(stored)
    moved(net, 2)
    average.update(2)
    resumed.update(2)
    assert all(torch.equal(average.averages[name], resumed.averages[name]) for name in stored)
    assert not torch.equal(resumed.averages["0.bias"], stored["0.bias"])  # what was loaded is left alone
