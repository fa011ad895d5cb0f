"""Safety of a gallery: kill its writer, damage its files, and count what is lost or wrong.

    python benchmarks/crash.py [--kills 200] [--damages 200] [--readers 2] [--seed 1]

A writer adds, replaces and removes items of a synthetic gallery, compacts it now and then, and notes each
change in a file of its own: before it asks for it, and when it was acknowledged. It is killed with SIGKILL
at random moments while readers search. Then, with and without a kill before, one file of the gallery is
damaged at random: a bit flipped, a range zeroed, the end cut off, bytes appended, the file deleted. Each time
the gallery is opened and compared, item by item and bit by bit, with what was acknowledged; the change
that was in flight may be there or not, but whole.

lost    acknowledged items that are not there, or removed ones that are
wrong   items with another descriptor or row than was written, and searches that differ from brute force

Ends with exit status 1 when anything was lost or wrong. Needs a system that can fork.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfcd.catalog import Catalog, Item
from cfcd.gallery import Gallery
from cfcd.gallery.truth.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIM = 32
DAMAGES = ("flip", "zero", "cut", "delete", "append")
COLUMNS = ("rounds", "changes", "items", "lost", "wrong", "writers that failed", "readers that failed")
Expected = dict[str, int]
"""The seed of each item's descriptor, by id; its label says the seed as well."""
Held = dict[str, tuple["NDArray[np.float16]", str]]
"""Descriptor and label of each item, by id."""


def vector(seed: int) -> NDArray[np.float32]:
    """Make the unit descriptor of a seed, (DIM,) float32."""
    found = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    unit: NDArray[np.float32] = found / np.linalg.norm(found)
    return unit


def make(folder: Path) -> None:
    """Make an empty gallery that needs no model."""
    meta = {"identity": "crash", "model": "crash", "model_reference": "crash", "dim": str(DIM)}
    Store.create(folder, {**meta, "long_side": "null", "scales": "[1.0]"})


def rows(changed: Expected) -> tuple[Catalog, NDArray[np.float32]]:
    """Make catalog and descriptors of items."""
    items = [Item(id=key, path=Path(f"/{key}.jpg"), label=f"seed {seed}") for key, seed in changed.items()]
    catalog = Catalog.from_items(items, source=Path("/synthetic"), root=Path("/"), kind="synthetic")
    return catalog, np.stack([vector(seed) for seed in changed.values()])


def write(folder: Path, journal: Path, seed: int) -> None:
    """Change the gallery until killed, and note every change before and after."""
    chance = random.Random(seed)
    expected = read_journal(journal)[0]
    with Gallery(folder) as gallery, journal.open("a") as notes:
        while True:
            removing = len(expected) > 300 and chance.random() < 0.6
            names = chance.sample(sorted(expected), min(len(expected), chance.randint(1, 40)))
            new = [f"item {chance.randrange(10**9)}" for _ in range(chance.randint(1, 30))]
            change: dict[str, int | None] = dict.fromkeys(names) if removing else {}
            made = {} if removing else {name: chance.randrange(10**9) for name in (*names[:5], *new)}
            note(notes, ["asked", {**change, **made}])
            if removing:
                gallery.remove(names)
            else:
                gallery.add(*rows(made))
            note(notes, ["done"])
            expected = {key: kept for key, kept in {**expected, **made}.items() if key not in change}
            if chance.random() < 0.03:
                gallery.compact()


def note(notes: Any, line: list[Any]) -> None:
    """Write a line that a kill of this process leaves whole."""
    notes.write(json.dumps(line) + "\n")
    notes.flush()


def read_journal(journal: Path) -> tuple[Expected, Expected]:
    """Read what is acknowledged, and what is there if the change in flight was made as well."""
    expected: dict[str, int | None] = {}
    asked: dict[str, int | None] = {}
    for line in journal.read_text().splitlines():
        kind, *rest = json.loads(line)
        if kind == "asked":
            asked = rest[0]
        else:
            expected, asked = {**expected, **asked}, {}
    found = [
        {key: seed for key, seed in state.items() if seed is not None}
        for state in (expected, {**expected, **asked})
    ]
    return found[0], found[1]


def compare(folder: Path, journal: Path) -> Counter[str]:
    """Open the gallery and count what differs from what was acknowledged."""
    counts: Counter[str] = Counter()
    expected, maybe = read_journal(journal)
    with Gallery(folder) as gallery:
        held = contents(gallery)
        labels = {key: label for key, (_, label) in held.items()}
        if labels == {key: f"seed {seed}" for key, seed in maybe.items()}:
            expected = maybe
        counts["lost"] = len(expected.keys() ^ held.keys())
        for key in expected.keys() & held.keys():
            right = vector(expected[key]).astype(np.float16)
            counts["wrong"] += (
                not np.array_equal(held[key][0], right) or labels[key] != f"seed {expected[key]}"
            )
        counts["wrong"] += not search_is_right(gallery, held)
    # From here on it is settled which way the change in flight went.
    settled = {key: int(label.removeprefix("seed ")) for key, label in labels.items()}
    journal.write_text("".join(json.dumps(line) + "\n" for line in (["asked", settled], ["done"])))
    counts["items"] = len(held)
    return counts


def contents(gallery: Gallery) -> Held:
    """Read every item of one generation."""
    with gallery._store.reading():
        items = list(gallery._store.items())
        blocks = list(gallery._store.descriptors_above(0, DIM))
        count = len(gallery._store)
    numbers = [number for block, _ in blocks for number in block.tolist()]
    if numbers != [item.number for item in items] or len(items) != count:
        raise AssertionError("rows and descriptors do not belong together")
    vectors = [found for _, block in blocks for found in block]
    return {one.item.id: (found, str(one.item.label)) for one, found in zip(items, vectors, strict=True)}


def search_is_right(gallery: Gallery, held: Held) -> bool:
    """Compare a search with brute force over what is held."""
    query = vector(random.randrange(10**9))
    hits = gallery.search_vector(query, k=10)
    scores = {key: float(found.astype(np.float32) @ query) for key, (found, _) in held.items()}
    best = sorted(scores.values(), reverse=True)[:10]
    each = all(abs(scores.get(hit.id, 9.0) - hit.score) < 1e-4 for hit in hits)
    return each and np.allclose([hit.score for hit in hits], best, atol=1e-4)


def read(folder: Path, report: Path, seed: int) -> None:
    """Search until killed; every search must equal brute force on the one generation it sees."""
    random.seed(seed)
    counts: Counter[str] = Counter()
    with Gallery(folder) as gallery:
        while True:
            with gallery._store.reading():
                counts["wrong"] += not search_is_right(gallery, contents(gallery))
            counts["rounds"] += 1
            temporary = report.with_suffix(".tmp")
            temporary.write_text(json.dumps(counts))
            temporary.replace(report)
            time.sleep(0.05)


def damage(file: Path, how: str, chance: random.Random) -> None:
    """Damage a file at a random place."""
    data = bytearray(file.read_bytes())
    at = chance.randrange(max(1, len(data)))
    if how == "delete":
        file.unlink()
        return
    if how == "flip" and data:
        data[at] ^= 1 << chance.randrange(8)
    elif how == "zero":
        end = min(len(data), at + chance.randint(1, 5000))
        data[at:end] = b"\0" * (end - at)
    elif how == "cut":
        del data[at:]
    elif how == "append":
        data += chance.randbytes(chance.randint(1, 5000))
    file.write_bytes(data)


def start(run: Callable[[Path, Path, int], None], folder: Path, other: Path, seed: int) -> BaseProcess:
    """Fork a process, which spares it all imports."""
    process = multiprocessing.get_context("fork").Process(target=run, args=(folder, other, seed))
    process.start()
    return process


def kill_once(folder: Path, journal: Path, chance: random.Random) -> tuple[int, bool]:
    """Kill a writer at a random moment; give how many changes it made, and whether it ran till then."""
    before, wanted = journal.stat().st_size, chance.choice((0, 0, 1, 2, 5, 10))
    process = start(write, folder, journal, chance.randrange(10**9))

    def done() -> int:
        return journal.read_bytes()[before:].count(b'["done"]')

    while process.is_alive() and (done() < wanted or journal.stat().st_size == before):
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.05))
    process.kill()
    process.join()
    return done(), process.exitcode == -signal.SIGKILL


def run(root: Path, options: argparse.Namespace) -> dict[str, Counter[str]]:
    """Do the rounds of kills, then those of damage; give the lines of the table."""
    chance = random.Random(options.seed)
    folder, journal = root / "gallery", root / "journal"
    make(folder)
    journal.touch()
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    reports = [root / f"reader {number}.json" for number in range(options.readers)]
    readers = [start(read, folder, report, number) for number, report in enumerate(reports)]
    for number in range(options.kills):
        changes, killed = kill_once(folder, journal, chance)
        found = compare(folder, journal)
        count(totals["kill -9"], found, {"changes": changes, "writers that failed": not killed})
        if (number + 1) % 20 == 0:
            print(f"{number + 1} kills, {found['items']} items", file=sys.stderr)
    for process, report in zip(readers, reports, strict=True):
        failed = not process.is_alive()
        process.kill()
        process.join()
        searches = Counter(json.loads(report.read_text())) if report.exists() else Counter[str]()
        totals["searches meanwhile"].update({**searches, "readers that failed": failed})
    for number in range(options.damages):
        after = " after a kill" if number % 2 else ""
        if after:
            kill_once(folder, journal, chance)
        file = chance.choice(sorted(file for file in folder.iterdir() if file.is_file()))
        how = DAMAGES[number // 2 % len(DAMAGES)]
        kept = root / "before"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
        damage(file, how, chance)
        try:
            found = compare(folder, journal)
        except Exception:
            print(f"{how} {file.name}{after} cannot be mended: {keep(kept, folder)}", file=sys.stderr)
            raise
        name = "index-*" if file.name.startswith("index-") else file.name
        count(totals[f"{how} {name}{after}"], found, {})
        if found["lost"] or found["wrong"]:
            print(f"{how} {file.name}{after} is lost or wrong: {keep(kept, folder)}", file=sys.stderr)
    return totals


def keep(before: Path, after: Path) -> Path:
    """Keep a gallery before and after its damage, to look at."""
    place = Path(tempfile.mkdtemp(prefix="cfcd-crash-kept-"))
    shutil.copytree(before, place / "before")
    shutil.copytree(after, place / "after")
    return place


def count(total: Counter[str], found: Counter[str], further: dict[str, int]) -> None:
    """Add a round to a line of the table."""
    total.update({"rounds": 1, "lost": found["lost"], "wrong": found["wrong"], **further})
    total["items"] = found["items"]


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--damages", type=int, default=200)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="cfcd-crash-"))
    try:
        totals = run(root, options)
    finally:
        shutil.rmtree(root)
    print(f"| what | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for what, total in sorted(totals.items()):
        print(f"| {what} | {' | '.join(str(int(total[name])) for name in COLUMNS)} |")
    bad = ("lost", "wrong", "writers that failed", "readers that failed")
    raise SystemExit(int(any(total[name] for total in totals.values() for name in bad)))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
