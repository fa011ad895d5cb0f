"""Fewer dimensions for the codes of an index: PCA learnt on the gallery's own descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Directions with less than this share of the largest variance are noise that whitening would blow up.
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class Reduction:
    """A linear map of descriptors into fewer dimensions.

    Args:
        mean: (D,) float32, taken off first; zero without whitening.
        components: (R, D) float32 rows to project onto.
        whiten: Rows are brought to unit length after the projection.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    whiten: bool

    @classmethod
    def learn(cls, sample: NDArray[np.float32], dim: int, *, whiten: bool = False) -> Reduction:
        """Learn from (N, D) descriptors to keep `dim` of their components.

        Without whitening it keeps inner products as well as any projection can (the eigenvectors of the
        second moments, Eckart and Young 1936), so nothing is taken off before. With whitening it is the
        PCA-whitening of Jégou and Chum (ECCV 2012): centred, equal variances, unit length.
        """
        rows = sample.astype(np.float64)
        mean = rows.mean(0) if whiten else np.zeros(rows.shape[1])
        rows -= mean
        variances, directions = np.linalg.eigh(rows.T @ rows / len(rows))
        variances, components = variances[::-1][:dim], directions[:, ::-1].T[:dim]
        # An eigenvector's sign is arbitrary: its largest component is made positive.
        largest = np.abs(components).argmax(1)
        components = components * np.sign(components[np.arange(len(components)), largest])[:, None]
        if whiten:
            least = max(_LEAST_VARIANCE * float(variances[0]), _LEAST_VARIANCE**2)
            components = components / np.sqrt(np.maximum(variances, least))[:, None]
        return cls(mean.astype(np.float32), np.ascontiguousarray(components, np.float32), whiten)

    def apply(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reduce (N, D) float32 descriptors to (N, R) float32."""
        reduced = (vectors - self.mean) @ self.components.T
        if self.whiten:
            lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
            reduced /= np.maximum(lengths, np.finfo(np.float32).tiny)
        return np.ascontiguousarray(reduced, np.float32)
