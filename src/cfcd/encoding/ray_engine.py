"""Spread encoding over a Ray cluster: the results of `encode_items`, in the same order, from many machines.

Every machine needs cfcd, and the pictures and the model under the same paths. Whoever runs the command writes
the shards, so that they and their restarts are those of one machine.
"""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any

from cfcd.catalog import Item
from cfcd.encoding.bulk import FileJob, encode_items
from cfcd.encoding.encoder import Encoder, Reading
from cfcd.encoding.rows import FileStamp
from cfcd.errors import (
    CfcdError,
    EncodingError,
    IdentityMismatch,
    MissingExtra,
    PictureError,
    UnreadablePicture,
    UsageError,
)
from cfcd.model import find_model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Encoded = list[tuple[FileStamp | None, NDArray[np.float32] | PictureError]]

# Pictures a worker gets at once, how many such batches it has, and how many wait in all for their turn to be
# written: together they bound what is in memory, and what is done again when a worker is killed.
_BATCH = 32
_BATCHES_OF_A_WORKER = 2
_BATCHES_AHEAD = 4
_RETRIES = 2


@dataclass(frozen=True)
class RayEngine:
    """Encode on a Ray cluster: the one that RAY_ADDRESS names, or else one started on this machine.

    A worker that is killed is started again and its pictures are taken once more; a picture that kills its
    worker every time is an error of that picture.

    Args:
        workers: Processes that encode, each with threads of its own; by default one per machine, or one per
            GPU where there are any and the model can use them.
    """

    workers: int | None = None

    def __call__(
        self, encoder: Encoder, items: Iterable[Item]
    ) -> Generator[tuple[FileJob, NDArray[np.float32] | PictureError]]:
        """Encode as `encode_items` does.

        Raises:
            MissingExtra: ray is not installed.
            UsageError: The device names one GPU, or there are no workers.
            EncodingError: The cluster cannot be reached, or is gone.
        """
        items = iter(items)
        first = list(islice(items, _BATCH))
        if not first:
            return  # without starting a cluster
        with _cluster(), _ray_errors():
            workers = _start_workers(encoder, self.workers)
            try:
                yield from _ordered(workers, _batches(first, items))
            finally:
                workers.stop()


class _Worker:
    """Encode batches of pictures in a process of its own."""

    def __init__(
        self,
        reference: str,
        identity: str,
        long_side: int | None,
        scales: tuple[float, ...],
        device: str,
        precision: str,
        reading: Reading,
    ) -> None:
        self._reference, self._identity = reference, identity
        self._long_side, self._scales = long_side, scales
        self._options = device, precision, reading
        # Made with the first batch: an error while the worker is made Ray would take for its death.
        self._encoder: Encoder | None = None

    def _make_encoder(self) -> Encoder:
        model = find_model(self._reference).with_preprocessing(long_side=self._long_side, scales=self._scales)
        if model.identity != self._identity:
            raise IdentityMismatch(
                f"The model {self._reference} is another one on {platform.node()}.",
                "Put the same model there, under the same path.",
            )
        return Encoder(model, *self._options)

    def encode(self, items: list[Item]) -> Encoded:
        """Give stamp and descriptor, or error, of each item."""
        if self._encoder is None:
            self._encoder = self._make_encoder()
        return [(job.stamp, result) for job, result in encode_items(self._encoder, items)]


class _Workers:
    """The worker processes; batches go to those that have the least to do."""

    def __init__(self, count: int, arguments: tuple[Any, ...], resources: dict[str, float]) -> None:
        import ray

        self._arguments = arguments
        kind = ray.remote(_Worker)
        self._options = {**resources, "scheduling_strategy": "SPREAD", "max_restarts": -1}
        self._kind = kind
        self._load = dict.fromkeys((self._start() for _ in range(count)), 0)
        self._of: dict[Any, Any] = {}

    def _start(self) -> Any:
        return self._kind.options(**self._options, max_task_retries=_RETRIES).remote(*self._arguments)

    def __len__(self) -> int:
        return len(self._load)

    @property
    def full(self) -> bool:
        """Tell whether every worker has enough to do."""
        return min(self._load.values()) >= _BATCHES_OF_A_WORKER

    def submit(self, items: list[Item]) -> Any:
        """Start on a batch; give what `wait` knows it by."""
        worker = min(self._load, key=self._load.__getitem__)
        batch = worker.encode.remote(items)
        self._load[worker] += 1
        self._of[batch] = worker
        return batch

    def wait(self) -> Any:
        """Wait for any batch."""
        import ray

        done, _ = ray.wait(list(self._of), num_returns=1)
        self._load[self._of.pop(done[0])] -= 1
        return done[0]

    def results(self, batch: Any, items: list[Item]) -> Encoded:
        """Fetch what became of a batch."""
        import ray

        try:
            return ray.get(batch)  # type: ignore[no-any-return]
        except ray.exceptions.RayActorError:
            return self._one_by_one(items)

    def _one_by_one(self, items: list[Item]) -> Encoded:
        """Encode pictures of which one kills its worker, each alone, to name that one."""
        import ray

        results: Encoded = []
        worker = self._start()
        for item in items:
            try:
                results += ray.get(worker.encode.remote([item]))
            except ray.exceptions.RayActorError:
                what = f"{item.path} ended the worker that encoded it, {_RETRIES + 1} times."
                error = UnreadablePicture(what, "Encode it without --engine ray, or leave it out.")
                results.append((None, error))
        ray.kill(worker)
        return results

    def stop(self) -> None:
        """End the processes."""
        import ray

        for worker in self._load:
            ray.kill(worker)


def _start_workers(encoder: Encoder, wanted: int | None) -> _Workers:
    import ray

    device, precision = encoder.options
    if device.startswith("cuda:"):
        raise UsageError(f"Ray chooses the GPUs itself, not {device}.", "Use --device cuda.")
    cluster = ray.cluster_resources()
    machines = sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU"))
    gpus = int(cluster.get("GPU", 0))
    on_gpus = device == "cuda" or (device == "auto" and gpus > 0 and encoder.model.weights_path is not None)
    if on_gpus and not gpus:
        raise UsageError("The Ray cluster has no GPU.", "Use --device cpu.")
    count = wanted or (gpus if on_gpus else machines)
    cores = int(cluster.get("CPU", 0))
    if count < 1 or cores < 1:
        raise UsageError("There is no machine or worker to encode on.", "Start ray on a machine with CPUs.")
    # What a worker asks for decides how many fit on a machine, so one of them takes all of it.
    share = (
        1
        if on_gpus or wanted
        else min(
            int(node["Resources"]["CPU"])
            for node in ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU")
        )
    )
    preprocessing = encoder.model.config.preprocessing
    arguments = (
        encoder.model.reference,
        encoder.identity,
        preprocessing.long_side,
        preprocessing.scales,
        device,
        precision,
        encoder.reading,
    )
    return _Workers(count, arguments, {"num_cpus": share, "num_gpus": 1 if on_gpus else 0})


def _batches(first: list[Item], items: Iterator[Item]) -> Iterator[list[Item]]:
    batch = first
    while batch:
        yield batch
        batch = list(islice(items, _BATCH))


def _ordered(
    workers: _Workers, batches: Iterator[list[Item]]
) -> Iterator[tuple[FileJob, NDArray[np.float32] | PictureError]]:
    """Give the results in the order of the batches, whichever is done first."""
    numbers: dict[Any, int] = {}
    waiting: dict[int, list[Item]] = {}
    done: dict[int, Encoded] = {}
    begun = written = 0
    more = True
    while more or waiting:
        while more and not workers.full and begun - written < _BATCHES_AHEAD * len(workers):
            batch = next(batches, None)
            if batch is None:
                more = False
                break
            numbers[workers.submit(batch)] = begun
            waiting[begun] = batch
            begun += 1
        if numbers and written not in done:
            finished = workers.wait()
            number = numbers.pop(finished)
            done[number] = workers.results(finished, waiting[number])
        while written in done:
            for item, (stamp, result) in zip(waiting.pop(written), done.pop(written), strict=True):
                yield FileJob(item, stamp), result
            written += 1


@contextmanager
def _cluster() -> Iterator[None]:
    """Use the caller's Ray, or connect to a cluster during the block."""
    if find_spec("ray") is None:
        raise MissingExtra(
            "Encoding on a cluster needs the package ray, which is not installed.",
            'Install it with `pip install "cfcd[ray]"`.',
        )
    # It would tell its makers that it is used.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tips for its own next version
        try:
            ray.init(log_to_driver=False, logging_level="ERROR")
        except (ray.exceptions.RayError, ConnectionError, ValueError, RuntimeError, OSError) as error:
            place = os.environ.get("RAY_ADDRESS", "this machine")
            raise EncodingError(
                f"Ray cannot be reached or started at {place}: {str(error).splitlines()[0]}.",
                "Check RAY_ADDRESS, RAY_AUTH_TOKEN if the cluster wants one, and that `ray status` answers.",
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _ray_errors() -> Iterator[None]:
    """Turn errors of a worker into what was raised there, and those of the cluster into one of ours."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, CfcdError):
            raise cause from None
        raise
    except ray.exceptions.RayError as error:
        raise EncodingError(
            f"The Ray cluster gave up: {str(error).strip().splitlines()[0]}.",
            "Check its machines and run the command again; what was encoded is kept.",
        ) from error
