"""Keep the saved index of a gallery in step with its store and with what the user asked of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfcd.errors import MissingExtra
from cfcd.gallery.indexes.choice import (
    KINDS,
    LEAST_ITEMS,
    Choice,
    estimated_bytes,
    read_choice,
    wanted_spec,
    write_choice,
)
from cfcd.gallery.indexes.coded import CodedIndex
from cfcd.gallery.indexes.recall import measure_recall, search_milliseconds
from cfcd.gallery.indexes.search_index import (
    SearchIndex,
    Spec,
    is_outdated,
    load_index,
    make_index,
    saved_header,
)

if TYPE_CHECKING:
    from cfcd.gallery.truth.store import Store


def keep_index(folder: Path, store: Store, dim: int) -> None:
    """Save the index when the saved one lags, is worn out, or is not what was chosen; measure what is built.

    Args:
        folder: The gallery.
        store: Open for writing.
        dim: Components of a descriptor.

    Raises:
        GalleryError: The disk refused it; the store is whole.
        MissingExtra: The kind that was named needs a package that is not installed.
    """
    with store.reading():
        choice, count, saved = read_choice(store), len(store), saved_header(folder, store)
        spec = wanted_spec(choice, count, dim, saved)
        choosing = choice.has_budgets and choice.chosen is None and count >= LEAST_ITEMS
        outdated = is_outdated(folder, store) or (saved is not None and saved.spec != spec)
        if not (choosing or outdated or (saved is None and spec.kind != "exact")):
            return
        index = load_index(folder, spec, dim)
        if not choosing:
            built = index.generation == 0
            index.catch_up(store)
            worn = index.is_worn(store)
            choosing = worn and choice.has_budgets
            if worn and not choosing:
                index = make_index(spec, dim)
                index.catch_up(store)
            if (built or worn) and not choosing and isinstance(index, CodedIndex):
                index.measured = measure_recall(index, store)
        if choosing:
            choice, index = _fit_budgets(store, choice, count, dim)
    index.save(folder)
    if choosing:
        with store.changing():
            write_choice(store, choice)


def _fit_budgets(store: Store, choice: Choice, count: int, dim: int) -> tuple[Choice, SearchIndex]:
    """Build one kind after another until one keeps every budget; failing that, take the nearest."""
    nearest: tuple[float, SearchIndex, list[str]] | None = None
    smallest = min(KINDS, key=lambda kind: estimated_bytes(choice.spec(kind, dim), count, dim))
    for kind in KINDS:
        spec = choice.spec(kind, dim)
        fits = choice.memory is None or estimated_bytes(spec, count, dim) <= choice.memory
        if not fits and kind != smallest:
            continue
        try:
            index = make_index(spec, dim)
        except MissingExtra:
            continue
        index.catch_up(store)
        if isinstance(index, CodedIndex):
            index.measured = measure_recall(index, store)
        else:
            queries = next(store.descriptors_above(0, dim))[1][:21].astype("float32")
            index.measured = {"search_ms": search_milliseconds(index, queries)}
        misses = _misses(index, choice)
        distance = sum(misses.values())
        if nearest is None or distance < nearest[0]:
            nearest = distance, index, list(misses)
        if not misses:
            break
    assert nearest is not None  # the smallest kind was built in any case
    _, index, unmet = nearest
    if unmet:
        index.measured = {**index.measured, "unmet": unmet}
    return replace(choice, chosen=index.spec.kind), index


def _misses(index: SearchIndex, choice: Choice) -> dict[str, float]:
    """Name the budgets that an index does not keep, and by what share."""
    misses = {}
    taken, recall = index.resident_bytes, index.measured.get("recall@10", 1.0)
    seconds = index.measured.get("search_ms", 0.0) / 1000
    if choice.memory is not None and taken > choice.memory:
        misses[f"memory {choice.memory / 1e9:.3g} GB: {index.spec.text()} takes {taken / 1e9:.3g} GB"] = (
            math.log(taken / choice.memory)
        )
    if choice.recall is not None and recall < choice.recall:
        misses[f"recall@10 {choice.recall:g}: {index.spec.text()} reaches {recall:g}"] = (
            choice.recall - recall
        ) / choice.recall
    if choice.latency is not None and seconds > choice.latency:
        took = f"latency {1000 * choice.latency:g} ms: {index.spec.text()} takes {1000 * seconds:.3g} ms"
        misses[took] = math.log(seconds / choice.latency)
    return misses


def index_in_memory(folder: Path, store: Store, dim: int, held: SearchIndex | None) -> SearchIndex:
    """Give the index to search with: the one held, or the saved one when that is of another kind by now.

    Call it within `store.reading()`; the index may still have to catch up.
    """
    if held is not None and (held.generation, held.token) == (
        store.generation,
        store.token(held.generation),
    ):
        return held
    saved = saved_header(folder, store)
    spec = wanted_spec(read_choice(store), len(store), dim, None) if saved is None else saved.spec
    if held is None or held.spec != spec or store.token(held.generation) != held.token:
        return load_index(folder, spec, dim)
    return held


def describe_index(folder: Path, store: Store, dim: int) -> dict[str, Any]:
    """Describe the index of a gallery as plain data, from what is written about it."""
    choice, saved = read_choice(store), saved_header(folder, store)
    spec = wanted_spec(choice, len(store), dim, saved) if saved is None else saved.spec
    measured = {} if saved is None else saved.measured
    found: dict[str, Any] = {"kind": spec.kind, "chosen": choice.text()}
    if spec.reduce is not None:
        found |= {"dimensions": spec.reduce, "whitened": spec.whiten}
    if spec == Spec("exact"):
        found["recall"] = "exact"
    elif "recall@10" in measured:
        found |= {name: measured[name] for name in ("recall@10", "recall@100")}
        found["measured"] = f"with {measured['queries']} of {measured['items']} items as queries"
    else:
        found["recall"] = "not measured"
    if "search_ms" in measured:
        found["search_ms"] = measured["search_ms"]
    if saved is not None and saved.items:
        found["bytes_per_item"] = round(saved.resident_bytes / saved.items, 1)
    if measured.get("unmet"):
        found["unmet"] = measured["unmet"]
    return found
