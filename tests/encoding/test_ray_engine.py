"""Encoding on a Ray cluster of two workers on this machine against encoding here."""

from __future__ import annotations

import csv
import json
import os
import secrets
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cfcd.catalog import Catalog, Item, read_catalog
from cfcd.encoding import Encoder, encode_catalog, load_model, ray_engine, read_encoded
from cfcd.encoding.bulk import encode_items
from cfcd.encoding.ray_engine import RayEngine
from cfcd.errors import IdentityMismatch, MissingExtra, UsageError
from tests.support import make_photo

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")

_CLUSTER = """
import ray, sys
started = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
print("address", started.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Ray of two CPUs, held by a process of its own, that this one is connected to; gives its address."""
    # Newer versions of Ray want a token of whoever joins: one that only these tests know. It is read when
    # ray is imported first.
    environment = pytest.MonkeyPatch()
    environment.setenv("RAY_AUTH_MODE", "token")
    environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
    environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = (line.removeprefix("address ").strip() for line in process.stdout if line[:8] == "address ")
        address = next(lines, None)
        if address is None:
            pytest.skip("ray cannot be started here")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tips for its own next version
            import ray

            ray.init(address, log_to_driver=False, logging_level="ERROR")
        # Classes of this file reach the workers as they are, not by a name that these cannot import.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield address
        ray.shutdown()
    finally:
        process.communicate(timeout=120)
        environment.undo()


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """20 photos, a broken one and a missing one, in batches of 3 pictures."""
    monkeypatch.setattr(ray_engine, "_BATCH", 3)
    rows = []
    (tmp_path / "photos").mkdir()
    for number in range(20):
        size = ((96, 64), (64, 96))[number % 2]
        make_photo(number, size).save(tmp_path / "photos" / f"{number:02d}.jpg")
        rows.append(f"{number:02d}.jpg,{number % 4},{1990 + number}")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    rows[7:7] = ["broken.jpg,1,2000", "missing.jpg,1,2000"]
    (tmp_path / "photos" / "catalog.csv").write_text("path,label,year\n" + "\n".join(rows))
    return read_catalog(tmp_path / "photos" / "catalog.csv")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_model(precision="fp32")


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith("writer")}


def test_the_shards_are_those_of_one_machine(
    cluster: str, catalog: Catalog, encoder: Encoder, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    here = encode_catalog(catalog, encoder, tmp_path / "here", shard_rows=6)
    there = encode_catalog(
        catalog,
        encoder,
        tmp_path / "there",
        shard_rows=6,
        engine=RayEngine(2),
        progress=lambda *counts: seen.append(counts),
    )
    assert (there.encoded, there.skipped) == (here.encoded, here.skipped)
    assert there.encoded == 20
    assert seen[-1] == (22, 22)
    assert files(tmp_path / "here") == files(tmp_path / "there")
    with (tmp_path / "there" / "skipped.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["broken.jpg", "missing.jpg"]


def test_what_is_done_is_not_done_again(
    cluster: str, catalog: Catalog, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def stop(done: int, _total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_catalog(catalog, encoder, out, engine=RayEngine(), progress=stop)
    done = len(read_encoded(out).catalog)
    assert 0 < done < 20
    assert encode_catalog(catalog, encoder, out, engine=RayEngine()).already == done
    encoded = read_encoded(out)
    assert sorted(encoded.catalog.ids) == [f"{number:02d}.jpg" for number in range(20)]
    # With nothing left to do but what cannot be read, and then nothing at all, no worker is started.
    monkeypatch.setattr(ray_engine, "_start_workers", lambda *_: pytest.fail("a worker was started"))
    assert encode_catalog(catalog.select(range(7)), encoder, out, engine=RayEngine()).encoded == 0


def test_killed_workers_are_replaced(
    cluster: str, catalog: Catalog, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    start, started = ray_engine._start_workers, []

    def remember(*arguments: Any) -> Any:
        started.append(start(*arguments))
        return started[-1]

    def kill(done: int, _total: int) -> None:
        if done == 4:
            for worker in started[0]._load:
                ray.kill(worker, no_restart=False)

    monkeypatch.setattr(ray_engine, "_start_workers", remember)
    summary = encode_catalog(catalog, encoder, tmp_path / "there", engine=RayEngine(2), progress=kill)
    assert summary.encoded == 20
    encode_catalog(catalog, encoder, tmp_path / "here")
    assert files(tmp_path / "here") == files(tmp_path / "there")


class DeadlyWorker(ray_engine._Worker):
    """Die of one picture, as of one that a broken decoder cannot stand."""

    def encode(self, items: list[Item]) -> Any:
        if any(item.id == "05.jpg" for item in items):
            os._exit(1)
        return super().encode(items)


def test_a_picture_that_kills_its_worker_is_skipped_alone(
    cluster: str, catalog: Catalog, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "_Worker", DeadlyWorker)
    monkeypatch.setattr(ray_engine, "_RETRIES", 1)
    few = catalog.select(range(7))
    here = list(encode_items(encoder, few))
    there = list(RayEngine(1)(encoder, few))
    assert [job.item.id for job, _ in there] == list(few.ids)
    bad = list(few.ids).index("05.jpg")
    assert "ended the worker" in str(there[bad][1])
    for at, ((job, vector), (remote_job, remote_vector)) in enumerate(zip(here, there, strict=True)):
        if at != bad:
            assert job == remote_job
            assert (vector == remote_vector).all()


def test_another_model_under_the_same_name_is_refused(
    cluster: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_model()
    monkeypatch.setattr(Encoder, "identity", "f00d")
    with pytest.raises(IdentityMismatch, match="another one"):
        list(RayEngine(1)(encoder, catalog))


def test_options_that_a_cluster_cannot_follow(cluster: str, catalog: Catalog) -> None:
    for device, message in (("cuda:1", "Ray chooses"), ("cuda", "no GPU")):
        with pytest.raises(UsageError, match=message):
            list(RayEngine()(load_model(device=device), catalog))


def test_ray_is_an_extra(catalog: Catalog, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match="ray"):
        list(RayEngine()(encoder, catalog))


def test_the_command_finds_the_cluster_by_its_address(
    cluster: str, catalog: Catalog, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    result = cli("encode", catalog.source, "--engine", "ray", "--workers", "1", "--out", "out", "--json")
    assert json.loads(result.stdout)["encoded"] == 20
    assert "broken.jpg" in result.stderr
    assert "--engine ray" in cli("encode", catalog.source, "--workers", "1", "--out", "x", code=2).stderr
