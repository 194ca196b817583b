"""Texts of figures made to fit the room that they have, by the widths of their letters."""

import functools

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

_DPI = 288  # at which widths are measured: so fine that rounding to pixels does not count
_LEFT_OUT = "…"


def width(text: str, size: float) -> float:
    """Returns the width of a line of text in inches, in the fonts of `fonts.fallbacks`.

    Args:
      text: a single line.
      size: of the font, in points.
    """
    pixels, _, _ = _renderer().get_text_width_height_descent(text, FontProperties(size=size), False)
    return pixels / _DPI


def shortened(text: str, room: float, size: float) -> str:
    """Returns a text as one line that fits the room; … stands for the middle where it is too long.

    Names often differ at the end only, such as numbered ones, so the end is kept, too.

    Args:
      text: breaks of lines and runs of spaces become single spaces.
      room: inches.
      size: of the font, in points.
    """
    text = " ".join(text.split())
    if width(text, size) <= room:
        return text
    kept, too_many = 0, len(text)
    while too_many - kept > 1:
        count = (kept + too_many) // 2
        if width(_without_middle(text, count), size) <= room:
            kept = count
        else:
            too_many = count
    return _without_middle(text, kept)


def wrapped(text: str, room: float, size: float) -> str:
    """Returns a text broken into lines that fit the room, between words where that is possible.

    Args:
      text: its own breaks are kept.
      room: inches.
      size: of the font, in points.
    """
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}" if line else word
            if width(joined, size) <= room:
                line = joined
                continue
            if line:
                lines.append(line)
            line = word
            while (fitting := _fitting(line, room, size)) < len(line):
                lines.append(line[:fitting])
                line = line[fitting:]
        lines.append(line)
    return "\n".join(lines)


def _without_middle(text: str, kept: int) -> str:
    """Returns a text with so many of its letters, two thirds of them from its start."""
    last = kept // 3
    return text[: kept - last].rstrip() + _LEFT_OUT + text[len(text) - last :].lstrip()


def _fitting(word: str, room: float, size: float) -> int:
    """Returns how many letters of a word fit the room, one at least."""
    fits, too_many = 1, len(word) + 1
    while too_many - fits > 1:
        count = (fits + too_many) // 2
        if width(word[:count], size) <= room:
            fits = count
        else:
            too_many = count
    return fits


@functools.cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, _DPI)
