"""Which index a gallery is to have: named by the user, led by budgets, or by the number of items."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cfcd.errors import UsageError
from cfcd.gallery.indexes.engines import code_bytes
from cfcd.gallery.indexes.files import Header, Spec

if TYPE_CHECKING:
    from cfcd.gallery.truth.store import Store

# In the order in which budgets try them: from the simplest and quickest to build.
KINDS = {
    "exact": "every descriptor compared; 2 bytes per dimension",
    "pq": "4-bit codes, then bytes; a little over 1 byte per dimension",
    "codes": "4-bit codes, re-scored from the stored descriptors; 1/8 byte per dimension",
    "turbovec": "2 bits per dimension, re-scored from the stored descriptors; needs the extra turbovec",
    "ivf": "as pq, looking only into the nearest of many lists",
    "hnsw": "a graph over bytes; the fastest, the slowest to build",
}
AUTO = "auto"
# Fewer items are searched exactly whatever was chosen: there is nothing to save.
LEAST_ITEMS = 1000
# Without a choice: exact below, pq from here; a gallery that shrinks keeps its pq down to half of it.
EXACT_ITEMS = 100_000
_META = "index"
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BYTES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Choice:
    """What the user asked of the index.

    Args:
        kind: One of `KINDS`, or "auto": by the budgets when there are any, otherwise by size.
        memory: Bytes that the index may take in memory.
        recall: Least recall@10 against exact search, in 0 to 1.
        latency: Seconds that one search may take on the machine that builds the index.
        reduce: Dimensions that the codes are made in; None keeps all.
        whiten: Give the reduced dimensions equal variance.
        chosen: The kind that the budgets have led to.
    """

    kind: str = AUTO
    memory: int | None = None
    recall: float | None = None
    latency: float | None = None
    reduce: int | None = None
    whiten: bool = False
    chosen: str | None = None

    def __post_init__(self) -> None:
        if self.kind != AUTO and self.kind not in KINDS:
            raise UsageError(
                f"There is no index {self.kind!r}.", f"Choose one of {', '.join((AUTO, *KINDS))}."
            )
        if self.kind != AUTO and self.has_budgets:
            raise UsageError(
                f"The index {self.kind} was named and budgets were given.",
                "Give either --index, or --memory, --recall and --latency to have one chosen.",
            )
        if self.reduce is not None and self.reduce < 8:
            raise UsageError(f"The index cannot be reduced to {self.reduce} dimensions.", "Give 8 or more.")
        if self.whiten and self.reduce is None:
            raise UsageError("Whitening needs a number of dimensions.", "Give --reduce as well.")

    @property
    def has_budgets(self) -> bool:
        """Tell whether any budget is set."""
        return not self.memory is self.recall is self.latency is None

    def spec(self, kind: str, dim: int) -> Spec:
        """Give what an index of this kind is to be made of; a reduction to D or more is none."""
        if self.reduce is None or self.reduce >= dim:
            return Spec(kind)
        return Spec(kind, self.reduce, self.whiten)

    def text(self) -> str:
        """Say how the kind of index comes about."""
        if self.kind != AUTO:
            return "named"
        budgets = []
        if self.memory is not None:
            budgets.append(f"memory {self.memory / 1e9:.3g} GB")
        if self.recall is not None:
            budgets.append(f"recall@10 {self.recall:g}")
        if self.latency is not None:
            budgets.append(f"latency {1000 * self.latency:g} ms")
        return f"for {', '.join(budgets)}" if budgets else "by size"


def wanted_spec(choice: Choice, count: int, dim: int, saved: Header | None) -> Spec:
    """Decide what the index of a gallery is to be.

    Args:
        choice: What the user asked.
        count: Items of the gallery.
        dim: Components of a descriptor.
        saved: The header of the saved index.
    """
    if count < LEAST_ITEMS:
        return Spec("exact")
    kind = choice.chosen if choice.kind == AUTO else choice.kind
    if kind is None:
        least = EXACT_ITEMS // 2 if saved is not None and saved.spec.kind == "pq" else EXACT_ITEMS
        kind = "pq" if count >= least else "exact"
    return choice.spec(kind, dim)


def estimated_bytes(spec: Spec, count: int, dim: int) -> int:
    """Estimate what an index of `count` items takes in memory: its codes, row numbers and marks."""
    beside = 40 if spec == Spec("exact") else 9
    return round(count * (code_bytes(spec.kind, spec.code_dim(dim)) + beside))


def read_choice(store: Store) -> Choice:
    """Read what was chosen for a gallery."""
    text = store.meta(_META)
    return Choice(**json.loads(text)) if text else Choice()


def write_choice(store: Store, choice: Choice) -> None:
    """Write what was chosen into the store; within `store.changing()`."""
    store.set_meta(_META, json.dumps(asdict(choice)))


def ask(
    kind: str | None,
    memory: str | None,
    recall: str | None,
    latency: str | None,
    reduce: int | None,
    whiten: bool,
) -> Choice | None:
    """Read a choice as it is written on the command line; None when nothing is asked.

    Raises:
        UsageError: An amount cannot be read, or the parts contradict each other.
    """
    if (kind, memory, recall, latency, reduce, whiten) == (None, None, None, None, None, False):
        return None
    return Choice(
        kind or AUTO,
        None if memory is None else parse_memory(memory),
        None if recall is None else parse_recall(recall),
        None if latency is None else parse_latency(latency),
        reduce,
        whiten,
    )


def parse_memory(text: str) -> int:
    """Read an amount of memory, such as 2GB or 1.5GiB, in bytes.

    Raises:
        UsageError: It is none.
    """
    return round(_parse(text, _BYTES, "memory", "2GB, 500MB or 1.5GiB"))


def parse_latency(text: str) -> float:
    """Read a time, such as 20ms or 0.5s, in seconds.

    Raises:
        UsageError: It is none.
    """
    return _parse(text, _SECONDS, "latency", "20ms or 0.5s")


def parse_recall(text: str) -> float:
    """Read a share, such as 0.99 or 99%.

    Raises:
        UsageError: It is none.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(%?)\s*", text)
    value = float(match[1]) / (100 if match[2] else 1) if match else 0
    if not 0 < value <= 1:
        raise UsageError(f"--recall {text!r} is no share of the right hits.", "Write it like 0.99 or 99%.")
    return value


def _parse(text: str, units: dict[str, float] | dict[str, int], name: str, examples: str) -> float:
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([a-zµ]+)\s*", text.lower())
    unit = units.get(match[2].replace("µ", "u")) if match else None
    if match is None or unit is None or float(match[1]) == 0:
        raise UsageError(f"--{name} {text!r} is no amount with a unit.", f"Write it like {examples}.")
    return float(match[1]) * unit
