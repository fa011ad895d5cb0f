"""PNG as Pillow reads it, with an Exif block found also behind the pixels."""

from __future__ import annotations

from PIL.PngImagePlugin import PngImageFile

_MOST_CHUNKS = 100_000


class PngReader(PngImageFile):
    """Read a PNG whose orientation is known before its pixels are decoded, wherever its eXIf chunk stands."""

    def _open(self) -> None:
        super()._open()
        if self.fp is None or "exif" in self.info:
            return
        # PNG 3, section 5.6, lets eXIf follow the pixels; Pillow sees that only after decoding them.
        pixels = self.fp.tell()
        at = pixels - 8
        for _ in range(_MOST_CHUNKS):
            self.fp.seek(at)
            head = self.fp.read(8)
            if len(head) < 8 or head[4:] == b"IEND":
                break
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"eXIf" and length < 1 << 20:
                self.info["exif"] = self.fp.read(length)
                break
            at += 12 + length
        self.fp.seek(pixels)
