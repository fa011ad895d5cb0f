"""Text on pictures that cfcd draws, in whatever font there is."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial.ttf",
    "arial.ttf",
    "Helvetica.ttc",
)
_IN_ASCII = str.maketrans(
    {"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "Ae", "đ": "d", "\N{MIDDLE DOT}": "-"}
)


@cache
def font(size: int) -> Font:
    """Take a font of the system, which knows most alphabets; Pillow's own one knows only ASCII."""
    for name in _SYSTEM_FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size=size)


def write(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, letters: Font, colour: str, room: int
) -> None:
    """Write one line at (x, y) pixels, shortened to `room` pixels."""
    pen.text(at, elided(one_line(text), letters, room), fill=colour, font=letters)


def one_line(text: str) -> str:
    """Leave no line breaks or control characters, and no letters that the font lacks."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    if Path(str(getattr(font(13), "path", ""))).name in _SYSTEM_FONTS:
        return plain
    plain = unicodedata.normalize("NFKD", plain).translate(_IN_ASCII)
    return "".join(c if c.isascii() else "?" for c in plain if not unicodedata.combining(c))


def elided(text: str, letters: Font, room: int) -> str:
    """Shorten a text in its middle, so that the start of a name and its number at the end stay."""
    if letters.getlength(text) <= room:
        return text
    shown, most = 0, len(text)
    while shown < most:
        middle = (shown + most + 1) // 2
        fits = letters.getlength(_cut(text, middle)) <= room
        shown, most = (middle, most) if fits else (shown, middle - 1)
    return _cut(text, shown)


def wrapped(text: str, letters: Font, room: int) -> list[str]:
    """Break a text between words into lines of `room` pixels; a longer word stays whole."""
    lines: list[str] = []
    for word in text.split():
        if lines and letters.getlength(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _cut(text: str, keep: int) -> str:
    tail = keep // 2
    return f"{text[: keep - tail]}...{text[-tail:] if tail else ''}"  # three dots: every font has them
