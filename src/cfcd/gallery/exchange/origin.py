"""What descriptors on their way from one program to another say of themselves: which model made them.

The same words stand in a Parquet file's metadata (key "cfcd") and in `cfcd.json` beside other layouts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cfcd.errors import GalleryError

FORMAT = 1
METADATA_KEY = b"cfcd"
# Columns that no user's table has: where a row came from, for `cfcd index` to recognise it later.
SOURCE, KEY = "_source", "_key"
DESCRIPTOR = "descriptor"
BLOCK = 8192


@dataclass(frozen=True)
class Origin:
    """The model that made descriptors, and how further columns are written.

    Attributes:
        identity: Of the model and its preprocessing.
        model: Its name for people.
        model_reference: The built-in name or folder it was loaded by.
        dim: Numbers per descriptor.
        long_side: Size limit of pictures in pixels.
        scales: Sizes that descriptors were averaged over.
        items: Rows in all, to notice what is missing.
        extra: Further columns: name in the file -> the catalog's name and "plain" or "json".
    """

    identity: str
    model: str
    model_reference: str
    dim: int
    long_side: int | None
    scales: tuple[float, ...]
    items: int
    extra: dict[str, tuple[str, str]] = field(default_factory=dict)

    def meta(self) -> dict[str, str]:
        """Give what a gallery's store keeps of its model."""
        return {
            "identity": self.identity,
            "model": self.model,
            "model_reference": self.model_reference,
            "dim": str(self.dim),
            "long_side": json.dumps(self.long_side),
            "scales": json.dumps(self.scales),
        }

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: object, where: Path) -> Origin:
        """Read it back.

        Raises:
            GalleryError: It is damaged or of another format.
        """
        try:
            if not isinstance(data, Mapping) or data["format"] != FORMAT:
                raise ValueError("of another format")
            return cls(
                str(data["identity"]),
                str(data["model"]),
                str(data["model_reference"]),
                int(data["dim"]),
                None if data["long_side"] is None else int(data["long_side"]),
                tuple(float(scale) for scale in data["scales"]),
                int(data["items"]),
                {str(name): (str(one[0]), str(one[1])) for name, one in dict(data["extra"]).items()},
            )
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise GalleryError(
                f"What {where} says of its model cannot be read: {error}.", "Export the gallery again."
            ) from error


def read_origin(file: Path) -> Origin | None:
    """Read a description that lies beside the data, None where there is none.

    Raises:
        GalleryError: It is damaged.
    """
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_bytes())
    except ValueError as error:
        raise GalleryError(f"{file} is not JSON: {error}.", "Export the gallery again.") from error
    return Origin.from_json(data, file)


def beside(array: Path, ending: str) -> Path:
    """Name a file that belongs to a `.npy`: descriptors.npy -> descriptors.ids.txt."""
    return array.with_name(f"{array.stem}.{ending}")
