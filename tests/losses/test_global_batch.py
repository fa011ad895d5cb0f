from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")

import torch.distributed as dist  # noqa: E402

from cfcd import losses  # noqa: E402
from cfcd.losses.global_batch import add_up, gather  # noqa: E402

KINDS = ("MadaCos", "AdaCos", "CurricularFace")
STEPS = 3


def make_steps():
    """The same weights and batches in every process; the median sample is in each half at least once."""
    maker = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.randn(*shape, generator=maker, dtype=torch.float64)

    weight = draw(40, 8)
    batches = []
    for _ in range(STEPS):
        labels = torch.randint(40, (10,), generator=maker)
        batches.append((weight[labels] + 0.5 * draw(10, 8), labels))
    return weight, batches


def run_steps(kind, start, stop):
    """Run the share [start, stop) of every batch; return numbers and gradients of each step."""
    weight, batches = make_steps()
    head = getattr(losses, kind)(8, 40).double()
    with torch.no_grad():
        head.weight.copy_(weight)
    found = []
    for features, labels in batches:
        head.weight.grad = None
        output = head(features[start:stop], labels[start:stop])
        output.loss.backward()
        found.append([output.scale, output.margin, output.median, output.loss.detach(), head.weight.grad])
    return found


def work(rank, folder, shares):
    """Be one of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    bounds = [0, shares[0], sum(shares)]
    found = {kind: run_steps(kind, bounds[rank], bounds[rank + 1]) for kind in KINDS}
    head = losses.MadaCos(8, 40).eval()
    if rank == 0:  # alone: evaluation must wait for nobody
        head(torch.randn(3, 8), torch.arange(3))
    dist.barrier()
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("shares", [(5, 5), (7, 3)], ids=["equal shares", "unequal shares"])
def test_two_processes_equal_one(tmp_path, shares):
    program = (
        f"from test_global_batch import work; import sys; work(int(sys.argv[1]), {str(tmp_path)!r}, {shares})"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(rank)],
            cwd=Path(__file__).parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [worker.communicate(timeout=120)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], said
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    moved = set()
    for kind in KINDS:
        for step, whole in enumerate(run_steps(kind, 0, sum(shares))):
            first, second = (part[kind][step] for part in parts)
            for name, one, left, right in zip(
                ("scale", "margin", "median"), whole, first, second, strict=False
            ):
                assert left == right, (kind, name)
                torch.testing.assert_close(left, one, rtol=1e-12, atol=1e-12)
            for one, left, right in zip(whole[3:], first[3:], second[3:], strict=True):
                mean = (left * shares[0] + right * shares[1]) / sum(shares)
                torch.testing.assert_close(mean, one, rtol=1e-10, atol=1e-12)
            moved.add((kind, float(whole[0]), float(whole[1])))
    assert len(moved) > STEPS + len(KINDS)  # scales and margins did differ between the steps


def test_the_median_sample_is_in_either_process():
    _, batches = make_steps()
    weight, _ = make_steps()
    unit = torch.nn.functional.normalize
    owners = set()
    for features, labels in batches:
        target = (unit(features) * unit(weight)[labels]).sum(1)
        owners.add(int(torch.median(target, 0).indices) >= 5)
    assert owners == {False, True}


def test_a_single_process_keeps_its_own():
    values = torch.rand(4)
    assert gather(values).values is values
    assert gather(values).start == 0
    assert add_up(values) is values
