"""What the fine phase looks at: the accepted local matches of a few training tuples, as a picture."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from cfcd.losses import local_descriptors, local_triplet_loss
from cfcd.training.matches import MatchedPair, draw_matches
from cfcd.training.plan import plan_fine
from cfcd.training.tuples import TupleSampler

if TYPE_CHECKING:
    from cfcd.training.crops import Crops
    from cfcd.training.loop import Loop

FILE = "matches.png"
_TRIES = 16  # tuples looked at per one drawn: many have no match, their crops show different parts


def draw_examples(loop: Loop, count: int) -> Path:
    """Draw the first tuples of the fine phase that have matches, as the network stands, to `matches.png`.

    Raises:
        TrainingError: The classes give no tuples.
    """
    fine, recipe, labels = loop.recipe.fine, loop.recipe, loop.data.labels
    predicted = labels if loop.mined is None else loop.mined.predicted
    sampler = TupleSampler(labels, predicted, seed=recipe.seed, tuple_size=fine.tuple_size)
    plan = plan_fine(sampler, fine.tuple_size, epoch=0)
    found: list[MatchedPair] = []
    looked = 0
    with (
        loop.progress("matching") as advance,
        loop.averaged(),
        closing(loop.loader.stream(recipe.coarse.epochs, plan.images, plan.slots)) as stream,
    ):
        for crops in stream:
            looked += 1
            pair = _match(loop, crops)
            if pair.pairs:
                found.append(pair)
            advance(len(found), count)
            if len(found) == count or looked == count * _TRIES:
                break
    title = f"{loop.folder.resolve().name}: matches in {len(found)} of {looked} tuples"
    return draw_matches(found, loop.folder / FILE, title=title)


@torch.no_grad()
def _match(loop: Loop, crops: Crops) -> MatchedPair:
    fine = loop.recipe.fine
    maps = loop.net.eval().maps(torch.from_numpy(crops.pixels).to(loop.crew.device))
    height, width = maps.shape[2:]
    found = local_triplet_loss(
        local_descriptors(maps.float(), fine.tuple_size), mu=fine.margin, ratio=fine.ratio
    )

    def cell(position: int) -> tuple[int, int]:
        return divmod(position, width)

    pairs = zip(found.anchors.tolist(), found.positives.tolist(), strict=True)
    return MatchedPair(
        Image.fromarray(crops.pixels[0]),
        Image.fromarray(crops.pixels[1]),
        [(cell(anchor), cell(positive)) for anchor, positive in pairs],
        (height, width),
        loop.data.classes[crops.labels[0]],
    )
