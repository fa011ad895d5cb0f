"""Why two pictures match: from an encoder and two pictures to an explanation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cfcd.encoding.preprocess import to_pixels, wanted_long_side
from cfcd.explaining.explanation import Explanation, Match, Regions
from cfcd.explaining.matching import match_maps
from cfcd.explaining.network import SplitNetwork, cannot_explain
from cfcd.explaining.shares import Parts, describe, share_map, take_apart
from cfcd.pictures import picture_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cfcd.catalog import Box
    from cfcd.encoding import Encoder
    from cfcd.pictures import PictureSource

PARITY = 0.9999
_MOST_POSITIONS = 4096  # of a map whose places are matched: their distances are all computed

Boxes = tuple["Box | None", "Box | None"]


@dataclass(frozen=True)
class _Seen:
    """Hold a picture as the network saw it: one map, its parts and one descriptor per scale."""

    size: tuple[int, int]
    area: Box
    maps: Sequence[NDArray[np.float32]]
    parts: Sequence[Parts]
    descriptor: NDArray[np.float32]

    def point(self, position: int, scale: int) -> tuple[float, float]:
        """Give the centre (x, y), in pixels of the upright picture, of a position in the map of a scale."""
        height, width = self.maps[scale].shape[1:]
        row, column = divmod(position, width)
        x1, y1, x2, y2 = self.area
        return x1 + (column + 0.5) / width * (x2 - x1), y1 + (row + 0.5) / height * (y2 - y1)


class Explainer:
    """Explain scores of one model; made once, it explains any number of pairs, from threads too.

    The network runs in fp32 on the CPU (OpenVINO on model.onnx), wherever the encoder itself runs. It is
    loaded on first use.

    Args:
        encoder: Says the model, its scales and how pictures are read.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    @cached_property
    def _network(self) -> SplitNetwork:
        return SplitNetwork(self.encoder.model)

    def explain(
        self, query: PictureSource, hit: PictureSource, *, boxes: Boxes = (None, None)
    ) -> Explanation:
        """Split the score of two pictures over the regions of each, and pair the places that are alike.

        Args:
            query: A picture, as for `Encoder.encode`.
            hit: The other one.
            boxes: For query and hit, (x1, y1, x2, y2) pixels of the upright picture to take alone, or None.

        Raises:
            PictureError: A picture cannot be read, or nothing of it lies in its box.
            ModelError: The model's scores do not decompose over positions.
        """
        seen = [self._see(source, box) for source, box in zip((query, hit), boxes, strict=True)]
        own = [describe(one.parts) for one in seen]
        # Unit vectors of fp32 are so up to rounding; a cosine of 1.00000006 would puzzle its reader.
        theirs = [one.descriptor.astype(np.float64) for one in seen]
        theirs = [row / np.linalg.norm(row) for row in theirs]
        parity = min(float(a @ b) for a, b in zip(own, theirs, strict=True))
        if not parity >= PARITY:
            reason = f"a descriptor computed from its last map has cosine {parity:.5f} to the network's own"
            raise cannot_explain(self.encoder.model.label, reason)
        of_query, of_hit = (
            Regions(*share_map(one.parts, self._network.whitening, other), one.area, one.size, one.descriptor)
            for one, other in zip(seen, reversed(own), strict=True)
        )
        score = float(theirs[0] @ theirs[1])
        return Explanation(self.encoder.model.label, score, of_query, of_hit, self._matches(*seen), parity)

    def _see(self, source: PictureSource, box: Box | None) -> _Seen:
        config, reading = self.encoder.model.config, self.encoder.reading
        size = picture_size(source, limits=reading.limits)
        picture = reading.load(source, box=box, long_side=wanted_long_side(config.preprocessing))
        maps, parts, descriptors = [], [], []
        for scale in config.preprocessing.scales:
            last_map, descriptor = self._network.run(to_pixels(picture, config.preprocessing, scale))
            maps.append(last_map)
            descriptors.append(descriptor)
            network = config.network
            parts.append(take_apart(last_map, self._network.whitening, network.p, network.eps))
        # As the encoder does: each scale is a unit row already.
        mean = np.mean(descriptors, axis=0, dtype=np.float32)
        return _Seen(size, _area(box, size), maps, parts, np.asarray(mean / np.linalg.norm(mean)))

    def _matches(self, query: _Seen, hit: _Seen) -> tuple[Match, ...]:
        scales = self.encoder.model.config.preprocessing.scales

        large = [max(one.maps[i][0].size for one in (query, hit)) for i in range(len(scales))]
        small = [i for i, positions in enumerate(large) if positions <= _MOST_POSITIONS]
        chosen = min(small or [scales.index(min(scales))], key=lambda i: abs(math.log(scales[i])))
        pairs = match_maps(query.maps[chosen], hit.maps[chosen])
        return tuple(
            Match(query.point(int(i), chosen), hit.point(int(j), chosen), float(cosine), bool(distinct))
            for i, j, cosine, distinct in zip(*pairs, strict=True)
        )


def explain(
    encoder: Encoder, query: PictureSource, hit: PictureSource, *, boxes: Boxes = (None, None)
) -> Explanation:
    """Say which regions of two pictures make up their score; see `Explainer` for many pairs.

    Args:
        encoder: A loaded model.
        query: A picture, as for `Encoder.encode`.
        hit: The other one.
        boxes: For query and hit, (x1, y1, x2, y2) pixels of the upright picture to take alone, or None.

    Raises:
        PictureError: A picture cannot be read, or nothing of it lies in its box.
        ModelError: The model's scores do not decompose over positions.
    """
    return Explainer(encoder).explain(query, hit, boxes=boxes)


def _area(box: Box | None, size: tuple[int, int]) -> Box:
    """Give the part of a picture that `load_picture` cuts out: in whole pixels, within the picture."""
    width, height = size
    x1, y1, x2, y2 = box or (0, 0, width, height)
    limited = (
        min(max(x1, 0), width),
        min(max(y1, 0), height),
        min(max(x2, 0), width),
        min(max(y2, 0), height),
    )
    return tuple(float(round(edge)) for edge in limited)  # type: ignore[return-value]
