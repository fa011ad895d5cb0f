from __future__ import annotations

import ctypes
import sys

import pytest

torch = pytest.importorskip("torch", reason="the light install has no torch")

from cfcd.errors import UsageError  # noqa: E402
from cfcd.training.precision import Precision, autocast, choose_precision, keep_memory  # noqa: E402

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16


@pytest.mark.parametrize("able", [True, False])
def test_auto_trains_in_fp32_on_a_cpu(monkeypatch: pytest.MonkeyPatch, able: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able)
    assert choose_precision("auto", CPU) == Precision(BF16 if able else FP32, FP32, scaled=False)


def test_auto_runs_on_this_machine() -> None:
    assert choose_precision("auto", CPU).trained == FP32


@pytest.mark.parametrize("able", [True, False])
def test_auto_takes_bf16_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch, able: bool) -> None:
    # As torch answers: GPUs that only emulate it support it too, unless asked not to count that.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: able or including_emulation
    )
    expected = Precision(BF16, BF16, scaled=False) if able else Precision(FP16, FP16, scaled=True)
    assert choose_precision("auto", GPU) == expected


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("fp32", CPU, Precision(FP32, FP32)),
        ("bf16", CPU, Precision(BF16, BF16)),
        ("fp32", GPU, Precision(FP32, FP32)),
        ("bf16", GPU, Precision(BF16, BF16)),
        ("fp16", GPU, Precision(FP16, FP16, scaled=True)),
    ],
)
def test_what_is_named_is_taken(name: str, device: torch.device, expected: Precision) -> None:
    assert choose_precision(name, device) == expected


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        choose_precision("fp16", CPU)


@pytest.mark.parametrize("kind", [FP32, BF16])
def test_layers_compute_in_the_type_asked_for(kind: torch.dtype) -> None:
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with autocast(CPU, kind):
        assert layer(x).dtype == kind
        # Switched off as well as on: the head, say, sits inside.
        with autocast(CPU, FP32):
            assert layer(x).dtype == FP32
    assert layer(x).dtype == FP32


def test_weights_that_change_within_a_block_are_not_cached() -> None:
    layer, x = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
    with autocast(CPU, BF16):
        for value in (1.0, 2.0):
            with torch.no_grad():
                layer.weight.fill_(value)
            assert layer(x).item() == value


def test_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Library:
        def __init__(self, name: str) -> None:
            self.name = name

        def mallopt(self, parameter: int, value: int) -> None:
            calls.append((self.name, parameter, value))

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(sys, "platform", "darwin")
    keep_memory()
    assert calls == []
    monkeypatch.setattr(sys, "platform", "linux")
    keep_memory()
    # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc's malloc.h; values are C ints
    assert [call[:2] for call in calls] == [("libc.so.6", -3), ("libc.so.6", -1)]
    assert all(1 << 29 < call[2] < 1 << 31 for call in calls)


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    tried = []

    def missing(name: str) -> None:
        tried.append(name)
        raise error(name)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", missing)
    keep_memory()
    assert tried == ["libc.so.6"]
