"""Finds the texts of a figure that are cut off at its edge, or that lie on one another."""

from collections.abc import Iterator, Sequence

from matplotlib.axis import Axis, Tick
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tl.report import fonts

# Names of 1 to 60 characters: wide and narrow letters, no space, other alphabets, signs.
WIDEST = "W" * 60
LONG = "a breed of dogs with a name of many words, as sixty letters."
NAMES = (
    "a",
    WIDEST,
    "i" * 60,
    LONG,
    "длинное имя породы, которое нигде не помещается целиком, нет",
    "قط",
    "$x_{$",
    "two\nlines",
)
_SLACK = 1.0  # pixels by which the box of a text is larger than its letters


def names(count: int, chosen: Sequence[str] = NAMES) -> list[str]:
    """Returns so many of the names, over and over, as pictures of classes have them."""
    return fonts.class_names([chosen[i % len(chosen)] for i in range(count)])


def faults(figure: Figure) -> list[str | tuple[str, str]]:
    """Returns the texts of a figure that are cut, and the pairs that lie on one another."""
    boxes = [(text, box.padded(-_SLACK)) for text, box in _boxes(figure)]
    inside = figure.bbox
    cut = [
        text.get_text()
        for text, box in boxes
        if not (inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1))
    ]
    met = [
        (text.get_text(), other.get_text())
        for i, (text, box) in enumerate(boxes)
        for other, its in boxes[:i]
        # Slanting texts lie beside each other within boxes that overlap.
        if box.overlaps(its) and not text.get_rotation() % 90 == other.get_rotation() % 90 > 0
    ]
    return [*cut, *met]


def _boxes(figure: Figure) -> Iterator[tuple[Text, Bbox]]:
    """Yields every text that is drawn with the box around it, in pixels."""
    figure.draw_without_rendering()
    unseen = {t for axes in figure.axes if not axes.get_visible() for t in axes.findobj(Text)}
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            if not _in_view(tick, axis):
                unseen |= {tick.label1, tick.label2}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in unseen:
            yield text, text.get_window_extent()


def _in_view(tick: Tick, axis: Axis) -> bool:
    low, high = sorted(axis.get_view_interval())
    return low <= tick.get_loc() <= high
