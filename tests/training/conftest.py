"""What tests of training share: tiny recipes, networks and crops; torch is met only where it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cfcd.training.recipe import Recipe
from cfcd.training.recipe_file import load_recipe
from tests.support import make_photo

if TYPE_CHECKING:
    from cfcd.training.build import Built
    from cfcd.training.crew import Crew
    from cfcd.training.crops import Crops

# The recipe `small` with random weights and few numbers, exact enough to compare.
TINY = {
    "model.weights": "random",
    "model.long_side": 64,
    "whitening.dim": 8,
    "augment.size": 64,
    "coarse.batch": 8,
    "fine.batch": 8,
    "fine.tuple_size": 4,
    "fine.margin": 0.1,
    "fine.ratio": 0.9,
    "fine.reduction": "sum",
    "run.precision": "fp32",
    "run.workers": 2,
}

TinyRecipe = Callable[[Mapping[str, object]], Recipe]
TinyBuilt = Callable[[Recipe], "Built"]


@pytest.fixture
def tiny() -> TinyRecipe:
    """Make the tiny recipe with options."""
    return lambda options: load_recipe("small", TINY | dict(options))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyBuilt]:
    """Build the network of a recipe for 3 classes on the CPU, the same one every time, in training mode.

    Lite0 keeps its 18 stages, but they are thin, and the last map has 32 channels. One thread computes: so
    little work is done sooner than a second one wakes up.
    """
    torch = pytest.importorskip("torch", reason="the light install has no torch")
    from cfcd.model import lite0
    from cfcd.training.build import build

    thin = [stage._replace(width=8, expansion=min(2, stage.expansion)) for stage in lite0.STAGES]
    monkeypatch.setattr(lite0, "STAGES", tuple(thin))
    monkeypatch.setattr(lite0, "CHANNELS", 32)

    def make(recipe: Recipe) -> Built:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = build(recipe, 3, torch.device("cpu"))
        made.net.train()
        return made

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield make
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def crew() -> Crew:
    """Give the crew of this one process."""
    pytest.importorskip("accelerate", reason="the light install has no accelerate")
    from cfcd.training.crew import Crew

    return Crew()


@pytest.fixture(scope="session")
def crops() -> Crops:
    """Give 8 pictures of 3 classes in 2 tuples of 4: anchor, nearly the same again, two others."""
    from cfcd.training.crops import Crops

    rng = np.random.default_rng(0)
    pixels = np.stack([np.asarray(make_photo(seed, (64, 64))) for seed in range(8)]).astype(np.int16)
    for anchor in (0, 4):
        pixels[anchor + 1] = pixels[anchor] + rng.integers(-8, 9, pixels[anchor].shape)
    labels = np.array([0, 0, 1, 2, 1, 1, 0, 2])
    return Crops(pixels.clip(0, 255).astype(np.uint8), np.arange(8), labels)
