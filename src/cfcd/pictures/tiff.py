"""TIFF as Pillow reads it, without turning it upright and with all 16-bit greys on one scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_ORIENTATION = 274


class TiffReader(TiffImageFile):
    """Read a TIFF without Pillow's second pass over its tags, its process-wide pixel limit, or rotation."""

    stored_orientation = 1

    def _open(self) -> None:
        super()._open()
        value: Any = self.tag_v2.get(_ORIENTATION)
        self.stored_orientation = value if value in range(1, 9) else 1
        self._size = self._tile_size

    def load_prepare(self) -> None:
        """Take the memory here, so that Pillow does not ask its process-wide limit."""
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size).im
        super().load_prepare()

    def load_end(self) -> None:
        """Do nothing: Pillow would read the tags again (and warn), then rotate."""

    def load(self) -> Any:
        """Decode; bring 12-bit grey, and grey whose 0 is white, to 16 bits with 0 as black."""
        if self.tile:
            super().load()
            bits = self.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]
            white_is_zero = self.tag_v2.get(_PHOTOMETRIC) == 0
            if self.mode.startswith("I;16") and (bits == 12 or white_is_zero):
                values = np.asarray(self)
                if bits == 12:
                    values = (np.minimum(values, 4095).astype(np.uint32) * 65535 // 4095).astype(np.uint16)
                grey = Image.fromarray(65535 - values if white_is_zero else values)
                self.im, self._mode = grey.im, grey.mode
        return super().load()
