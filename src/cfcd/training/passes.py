"""Passes over pictures as the encoder sees them: pooled features and predicted classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfcd.training.batches import clean_batches
from cfcd.training.mining import Mined, load_mined, mine, mining_identity, save_mined

if TYPE_CHECKING:
    from cfcd.catalog import Catalog
    from cfcd.encoding.encoder import Reading
    from cfcd.model import Preprocessing
    from cfcd.training.crew import Crew
    from cfcd.training.data import TrainingSet
    from cfcd.training.network import TrainingNet

Advance = Callable[[int, int], None]


class Passes:
    """Run the network over pictures without augmentation, the processes sharing the work.

    Args:
        net: The network; put into evaluation mode during a pass.
        preprocessing: The model's; scale 1 only.
        crew: The processes.
        workers: Threads that decode.
        reading: How pictures are read.
    """

    def __init__(
        self,
        net: TrainingNet,
        preprocessing: Preprocessing,
        crew: Crew,
        workers: int | None,
        reading: Reading | None,
    ) -> None:
        """Keep the parts."""
        self.net, self.preprocessing, self.crew = net, preprocessing, crew
        self.workers, self.reading = workers, reading

    def pooled(
        self, catalog: Catalog, rows: Sequence[int] | NDArray[np.int64], advance: Advance
    ) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Pool the last maps of catalog rows.

        Returns:
            (len(rows), C) float32 on every process, zeros where unreadable; row number -> reason for those.
        """
        found = torch.zeros(len(rows), self.net.net.config.channels)
        unreadable = self._over(catalog, rows, advance, found, lambda pooled: pooled)
        return found.numpy(), unreadable

    def descriptors(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map pooled features (n, C) to descriptors (n, D), unit rows, with the network as it is."""
        training = self.net.training
        found = self.net.eval().descriptors(torch.from_numpy(pooled).to(self.crew.device))
        self.net.train(training)
        descriptors: NDArray[np.float32] = found.cpu().numpy()
        return descriptors

    def mined(self, data: TrainingSet, folder: Path, advance: Advance) -> tuple[Mined, dict[int, str]]:
        """Predict the class of every picture by plain cosine, or read it from the cache of this very model.

        A picture that cannot be read counts as predicted right: nothing is known of it.
        """
        identity = mining_identity(self._weights_identity(), data.identity)
        path = folder / f"mined-{identity[:16]}.npz"
        cached = load_mined(path, data.labels, identity) if self.crew.leads else None
        predicted = torch.zeros(len(data), dtype=torch.int64)
        unreadable: dict[int, str] = {}
        if any(self.crew.collect(cached is not None)):
            if cached is not None:
                predicted = torch.from_numpy(cached.predicted.copy())
            predicted = self.crew.add_up(predicted)
        else:
            rows = np.arange(len(data))
            unreadable = self._over(data.catalog, rows, advance, predicted, self._classes)
            missing = list(unreadable)
            predicted[missing] = torch.from_numpy(data.labels[missing])
        mined = mine(data.labels, [(np.arange(len(data)), predicted.numpy())], identity=identity)
        if self.crew.leads and cached is None:
            save_mined(path, mined)
        return mined, unreadable

    def _over(
        self,
        catalog: Catalog,
        rows: Sequence[int] | NDArray[np.int64],
        advance: Advance,
        out: Tensor,
        last: Callable[[Tensor], Tensor],
    ) -> dict[int, str]:
        """Fill `out`, in the order of the rows, with what `last` makes of pooled features."""
        unreadable: dict[int, str] = {}
        place = {int(row): at for at, row in enumerate(rows)}
        training, done = self.net.training, 0
        self.net.eval()
        try:
            for batch in clean_batches(
                catalog,
                rows,
                self.preprocessing,
                unreadable=unreadable,
                process=self.crew.process,
                processes=self.crew.processes,
                workers=self.workers,
                reading=self.reading,
            ):
                pixels = torch.from_numpy(batch.pixels).to(self.crew.device)
                at = torch.tensor([place[int(row)] for row in batch.rows])
                out[at] = last(self.net.pooled(pixels)).to("cpu", out.dtype)
                done += len(at)
                advance(min(done * self.crew.processes, len(rows)), len(rows))
        finally:
            self.net.train(training)
        out.copy_(self.crew.add_up(out))
        return self.crew.merge(unreadable)

    def _classes(self, pooled: Tensor) -> Tensor:
        return self.net.head.scores(self.net.descriptors(pooled)).argmax(1)

    def _weights_identity(self) -> str:
        digest = hashlib.sha256(repr((self.net.net.config, self.preprocessing)).encode())
        for name, value in sorted(self.net.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
