from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from cfcd import lettering

OWN = ImageFont.load_default(size=13)


@given(st.text(max_size=60), st.integers(20, 200))
def test_shortened_text_fits_and_keeps_both_ends(text: str, room: int) -> None:
    short = lettering.elided(text, OWN, room)
    assert OWN.getlength(short) <= room
    if short != text:
        cuts = [at for at in range(len(short)) if short[at : at + 3] == "..."]
        assert any(text.startswith(short[:at]) and text.endswith(short[at + 3 :]) for at in cuts)


@given(st.text("ab \n", max_size=60), st.integers(20, 200))
def test_wrapped_lines_hold_all_words_and_fit(text: str, room: int) -> None:
    lines = lettering.wrapped(text, OWN, room)
    assert " ".join(lines).split() == text.split()
    assert all(OWN.getlength(line) <= room or " " not in line for line in lines)


@pytest.fixture
def without_system_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let there be no font but the bitmap one, which knows Latin-1 and has no sizes."""

    def missing(*_: object) -> None:
        raise OSError

    bitmap = ImageFont.load_default_imagefont()
    lettering.font.cache_clear()
    monkeypatch.setattr(ImageFont, "truetype", missing)
    monkeypatch.setattr(ImageFont, "load_default", lambda size: bitmap)
    yield
    lettering.font.cache_clear()


@pytest.mark.usefixtures("without_system_fonts")
def test_letters_that_the_font_lacks_are_spelled() -> None:
    assert lettering.one_line("Ch\N{LATIN SMALL LETTER A WITH CIRCUMFLEX}teau \N{MIDDLE DOT} \u57ce\n") == (
        "Chateau - ? "
    )
    page = Image.new("L", (90, 20))
    words = "Stra\N{LATIN SMALL LETTER SHARP S}e " * 20
    lettering.write(ImageDraw.Draw(page), (0, 0), words, lettering.font(13), "white", 80)
    assert page.getbbox() is not None
    assert page.crop((80, 0, 90, 20)).getbbox() is None


def test_control_letters_become_spaces() -> None:
    assert lettering.one_line("a\nb\x00c") == "a b c"
