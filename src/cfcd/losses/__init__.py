"""Training losses: cosine heads for the coarse phase, local triplets for the fine phase.

Names are loaded on first use: they need torch, which the light install leaves out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfcd.lazy import lazy_names
from cfcd.model.extras import need

if TYPE_CHECKING:
    from cfcd.losses.cosine_head import CosineHead, HeadOutput
    from cfcd.losses.cosine_heads import AdaCos, ArcFace, CosFace, CurricularFace, MadaCos, Softmax
    from cfcd.losses.local_triplets import LocalTriplets, local_descriptors, local_triplet_loss

__all__ = [
    "AdaCos",
    "ArcFace",
    "CosFace",
    "CosineHead",
    "CurricularFace",
    "HeadOutput",
    "LocalTriplets",
    "MadaCos",
    "Softmax",
    "local_descriptors",
    "local_triplet_loss",
]


__getattr__ = lazy_names(
    __name__,
    {
        "CosineHead": "cosine_head",
        "HeadOutput": "cosine_head",
        "AdaCos": "cosine_heads",
        "ArcFace": "cosine_heads",
        "CosFace": "cosine_heads",
        "CurricularFace": "cosine_heads",
        "MadaCos": "cosine_heads",
        "Softmax": "cosine_heads",
        "LocalTriplets": "local_triplets",
        "local_descriptors": "local_triplets",
        "local_triplet_loss": "local_triplets",
    },
    before=lambda name: need("torch", name),
)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
