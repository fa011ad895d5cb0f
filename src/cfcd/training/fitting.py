"""Whitening and class weights from the features of all training pictures, before and after training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cfcd.training.metric import Metric, class_means, fit_metric

if TYPE_CHECKING:
    from cfcd.training.data import TrainingSet
    from cfcd.training.passes import Advance, Passes
    from cfcd.training.recipe import WhiteningRecipe

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class Fitting:
    """Fit what follows from features in closed form.

    Args:
        data: The training pictures.
        passes: Run the network over them.
        wanted: The recipe's whitening.
        unreadable: Takes the pictures that cannot be read, by number, with the reason.
    """

    def __init__(
        self, data: TrainingSet, passes: Passes, wanted: WhiteningRecipe, unreadable: dict[int, str]
    ) -> None:
        """Keep the parts."""
        self.data, self.passes, self.wanted, self.unreadable = data, passes, wanted, unreadable
        self.net = passes.net

    def begin(self, advance: Advance) -> None:
        """Set whitening, class weights and the centre of distillation for the untrained network.

        A learned whitening, and what builds on it, stays random as in the paper: it is for collections that
        are large enough.

        Raises:
            TrainingError: A class has no picture that can be read.
        """
        if self.wanted.kind == "learned":
            return
        features, labels = self._features(advance)
        if self.wanted.kind == "metric":
            # All dimensions while training; what is left out at the end would be missed until then.
            self.net.set_metric(self._fit(features, labels, None))
        means = class_means(self.passes.descriptors(features), labels, len(self.data.classes))
        with torch.no_grad():
            # Half the mean is also what the whitening of the recipe "small" subtracts.
            self.net.centre.copy_(torch.from_numpy(0.5 * features.mean(0)))
            self.net.head.weight.copy_(torch.from_numpy(means))

    def refit(self, advance: Advance) -> None:
        """Fit the whitening anew, to the features of the trained network, and cut it to the wanted length."""
        if self.wanted.kind == "metric":
            self.net.set_metric(self._fit(*self._features(advance), self.wanted.dim))

    def _features(self, advance: Advance) -> tuple[Floats, Integers]:
        """Pool the features (n, C) of the pictures that can be read, with their labels (n,)."""
        every = np.arange(len(self.data))
        features, unreadable = self.passes.pooled(self.data.catalog, every, advance)
        self.data.without(unreadable)  # for its error: a class may have lost all its pictures
        self.unreadable.update(unreadable)
        keep = np.setdiff1d(every, list(unreadable))
        return features[keep], self.data.labels[keep]

    def _fit(self, features: Floats, labels: Integers, dim: int | None) -> Metric:
        wanted = self.wanted
        # The recipe fills these in for this kind.
        assert wanted.within and wanted.between and wanted.centre is not None and wanted.gain is not None
        return fit_metric(
            features,
            labels,
            within=wanted.within,
            between=wanted.between,
            centre=wanted.centre,
            gain=wanted.gain,
            dim=dim,
        )
