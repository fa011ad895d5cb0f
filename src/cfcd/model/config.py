"""What a model is, as data: network, preprocessing, training record, and the files that belong to it.

Every class checks itself when made, so a config that exists is a config that can be used.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, get_args

from cfcd.errors import ModelError

FORMAT = 1
MAX_SIDE = 16_384

ChannelOrder = Literal["RGB", "BGR"]
Resize = Literal["box", "bilinear", "bicubic", "hamming", "lanczos", "bilinear_plain"]
Backbone = Literal["efficientnet_lite0", "resnet50", "resnet101", "transformers"]

# Of RGB, in 0..1 units.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FIVE_SCALES = (0.3535, 0.5, 0.7071, 1.0, 1.4142)  # the paper's

_MEND = "Mend the value, or make the model again with `cfcd create`."
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Just above the smallest normal fp32 number: below it eps^p is 0 and GeM has no gradient.
_SMALLEST_POWER = 1e-37

T = TypeVar("T")


def nearest(name: str, known: list[str]) -> str:
    """Say which of the known names is meant: " Did you mean 'x'?" or nothing."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ModelError(what, _MEND)


def _check_format(value: object) -> None:
    if value != FORMAT:
        what = f"The model has format {value!r}; this version of cfcd reads format {FORMAT}."
        raise ModelError(what, "Install the version of cfcd that made the model, or a newer one.")


def _number(value: object, where: str) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30
    _require(good, f"{where} must be a finite number, not {value!r:.80}.")
    return float(value)  # type: ignore[arg-type]


def _whole(value: object, where: str, low: int, high: int) -> None:
    good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    _require(good, f"{where} must be a whole number from {low} to {high}, not {value!r:.80}.")


def _numbers(value: object, where: str) -> tuple[float, ...]:
    _require(isinstance(value, (list, tuple)), f"{where} must be a list of numbers, not {value!r:.80}.")
    return tuple(_number(item, where) for item in value)  # type: ignore[attr-defined]


def _choice(value: object, where: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        guess = nearest(str(value), list(choices))
        raise ModelError(f"{where} must be one of {', '.join(choices)}, not {value!r:.80}.{guess}", _MEND)


def _parse(cls: type[T], data: object, where: str, **nested: Any) -> T:
    """Make a config object from a JSON object; unknown and missing keys are errors."""
    _require(isinstance(data, Mapping), f"{where} must be a JSON object, not {data!r:.80}.")
    values: dict[str, Any] = dict(data)  # type: ignore[call-overload]
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ModelError(f"{where} has the unknown key {key!r}.{nearest(str(key), list(known))}", _MEND)
    for key, item in known.items():
        required = item.default is MISSING and item.default_factory is MISSING
        _require(key in values or not required, f"{where} lacks the key {key!r}.")
    for key, parse in nested.items():
        if values.get(key) is not None:
            values[key] = parse(values[key], f"{where}.{key}")
    return cls(**values)


def _set(config: object, **values: Any) -> None:
    for key, value in values.items():
        object.__setattr__(config, key, value)


@dataclass(frozen=True)
class Preprocessing:
    """Say how a picture becomes what the network sees.

    Args:
        channel_order: Order of the colours the network expects.
        mean: Per channel, in 0..255 units, in channel order; subtracted.
        std: Per channel, in 0..255 units, in channel order; divides.
        resize: Pillow filter, antialiased; or "bilinear_plain", bilinear between the nearest pixels without
            antialiasing (half-pixel centres, as OpenCV's INTER_LINEAR).
        long_side: Limit in pixels; larger pictures are scaled down, smaller ones left. None: no limit.
        side_multiple: Sides are rounded to the nearest multiple of this, at least one multiple.
        scales: Relative to the size after the long side limit; one descriptor is averaged over all.

    Raises:
        ModelError: A value cannot be used; the message names it.
    """

    channel_order: ChannelOrder
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Resize
    long_side: int | None
    side_multiple: int
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Check the values and bring them to one type, so that equal settings have equal identities."""
        _choice(self.channel_order, "preprocessing.channel_order", get_args(ChannelOrder))
        _choice(self.resize, "preprocessing.resize", get_args(Resize))
        mean, std = _numbers(self.mean, "preprocessing.mean"), _numbers(self.std, "preprocessing.std")
        scales = _numbers(self.scales, "preprocessing.scales")
        _require(len(mean) == len(std) == 3, "preprocessing.mean and std need three numbers each.")
        _require(min(std) > 0, f"preprocessing.std must be above 0, not {std}.")
        _require(0 < len(scales) <= 16, f"preprocessing.scales needs 1 to 16 numbers, not {len(scales)}.")
        good = all(0.05 <= scale <= 8 for scale in scales)
        _require(good, f"preprocessing.scales must lie between 0.05 and 8, not {scales}.")
        if self.long_side is not None:
            _whole(self.long_side, "preprocessing.long_side", 16, MAX_SIDE)
        _whole(self.side_multiple, "preprocessing.side_multiple", 1, 1024)
        _set(self, mean=mean, std=std, scales=scales)

    @classmethod
    def from_dict(cls, data: object, where: str = "preprocessing") -> Preprocessing:
        """Read from JSON; raise ModelError on unknown or missing keys."""
        return _parse(cls, data, where)


# "official": what the authors' networks were trained and are evaluated with. The colours come in the order
# BGR, each with its own statistics; pictures keep their size, and every scale is made from the original.
# Their code resizes floats where ours gives bytes: that costs at most 1.3e-6 of cosine with five scales.
PRESETS: Mapping[str, Preprocessing] = {
    "official": Preprocessing(
        channel_order="BGR",
        mean=tuple(255 * value for value in reversed(IMAGENET_MEAN)),  # type: ignore[arg-type]
        std=tuple(255 * value for value in reversed(IMAGENET_STD)),  # type: ignore[arg-type]
        resize="bilinear_plain",
        long_side=None,
        side_multiple=1,
        scales=FIVE_SCALES,
    )
}


def preset_of(preprocessing: Preprocessing) -> str | None:
    """Give the name of the preset that preprocessing follows, its scales apart; None if it follows none."""
    names = (
        name
        for name, preset in PRESETS.items()
        if replace(preset, scales=preprocessing.scales) == preprocessing
    )
    return next(names, None)


@dataclass(frozen=True)
class Whitening:
    """Say how the pooled vector becomes the descriptor: Linear(channels -> dim), then batch normalisation."""

    dim: int = 512
    batchnorm: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        _whole(self.dim, "network.whitening.dim", 2, 65_536)
        _require(isinstance(self.batchnorm, bool), "network.whitening.batchnorm must be true or false.")

    @classmethod
    def from_dict(cls, data: object, where: str = "whitening") -> Whitening:
        """Read from JSON; raise ModelError on unknown or missing keys."""
        return _parse(cls, data, where)


@dataclass(frozen=True)
class Network:
    """Say what the network is built of.

    Args:
        backbone: One of `Backbone`.
        backbone_config: The transformers configuration, for the backbone "transformers" only.
        channels: C of the backbone's last map.
        p: Exponent of the generalised mean; 1 is the average, 3 the usual, large is the maximum.
        eps: Smallest value the generalised mean sees.
        whitening: None: the pooled vector itself is the descriptor.
    """

    backbone: Backbone
    channels: int
    p: float = 3.0
    eps: float = 1e-6
    backbone_config: dict[str, Any] | None = field(default=None, hash=False)
    whitening: Whitening | None = None

    def __post_init__(self) -> None:
        """Check the values and bring them to one type."""
        _choice(self.backbone, "network.backbone", get_args(Backbone))
        _whole(self.channels, "network.channels", 1, 65_536)
        p, eps = _number(self.p, "network.p"), _number(self.eps, "network.eps")
        _require(p > 0, f"network.p must be above 0, not {p}.")
        _require(0 < eps < 1, f"network.eps must lie between 0 and 1, not {eps}.")
        good = p * math.log10(eps) >= math.log10(_SMALLEST_POWER)
        _require(good, f"network.p {p:g} with eps {eps:g} underflows; raise eps to {10 ** (-36 / p):.0e}.")
        is_free = self.backbone == "transformers"
        wanted = (
            "must hold the transformers configuration" if is_free else f"does not go with {self.backbone}"
        )
        _require(isinstance(self.backbone_config, dict) == is_free, f"network.backbone_config {wanted}.")
        good = self.whitening is None or isinstance(self.whitening, Whitening)
        _require(good, "network.whitening must be a JSON object or null.")
        _set(self, p=p, eps=eps)

    @property
    def dim(self) -> int:
        """Give D, the length of a descriptor."""
        return self.channels if self.whitening is None else self.whitening.dim

    @classmethod
    def from_dict(cls, data: object, where: str = "network") -> Network:
        """Read from JSON; raise ModelError on unknown or missing keys."""
        return _parse(cls, data, where, whitening=Whitening.from_dict)


@dataclass(frozen=True)
class ModelConfig:
    """Hold everything `config.json` says.

    Args:
        name: Plain name of the model: letters, digits and . _ + -
        network: What it is built of.
        preprocessing: How pictures reach it.
        training: Free record of how the weights came to be.
        files: Plain file name -> SHA-256 of its bytes (hex).
        format: Version of this layout.
    """

    name: str
    network: Network
    preprocessing: Preprocessing
    training: dict[str, Any] = field(default_factory=dict, hash=False)
    files: dict[str, str] = field(default_factory=dict, hash=False)
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Check the values."""
        _check_format(self.format)
        _require(isinstance(self.network, Network), "network must be a JSON object.")
        _require(isinstance(self.preprocessing, Preprocessing), "preprocessing must be a JSON object.")
        good = isinstance(self.name, str) and _PLAIN_NAME.fullmatch(self.name) is not None
        _require(
            good, f"name must be letters, digits and . _ + - (1 to 100 of them), not {self.name!r:.120}."
        )
        _require(isinstance(self.training, dict), "training must be a JSON object.")
        try:
            json.dumps(self.training, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ModelError(f"training must hold JSON values only: {error}.", _MEND) from error
        _require(isinstance(self.files, dict), "files must be a JSON object.")
        for name, digest in self.files.items():
            # Separators would let a config reach outside its folder.
            good = isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None
            _require(good, f"files must hold plain file names, not {name!r:.120}.")
            good = isinstance(digest, str) and _SHA256.fullmatch(digest) is not None
            _require(good, f"files[{name!r}] must be a SHA-256 in lower-case hex, not {digest!r:.80}.")

    @classmethod
    def from_dict(cls, data: object, where: str = "config.json") -> ModelConfig:
        """Read from JSON; raise ModelError on unknown or missing keys."""
        # The format comes first: another one may have other keys.
        if isinstance(data, Mapping):
            _check_format(data.get("format", FORMAT))
        return _parse(cls, data, where, network=Network.from_dict, preprocessing=Preprocessing.from_dict)

    def to_dict(self) -> dict[str, Any]:
        """Write as JSON values; `from_dict` reads it back to an equal object."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]
