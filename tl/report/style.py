"""How figures look on light and on dark pages. They are drawn within `theme`, without pyplot."""

import contextlib
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from tl.files import replacing
from tl.report import fonts, lettering

# Okabe and Ito's colour-blind safe colours; the marker tells the lines apart in grey, too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"

_TEXT = {False: "#1d2127", True: "#e7e7e3"}
_QUIET = {False: "#59616b", True: "#a5adb6"}
_LINE = {False: "#dfdfd9", True: "#31373d"}
# Zero is near the page, so that what matters stands out; luminance rises or falls steadily.
_LIGHT_MAP = ("#f7f8f9", "#cfe2ef", "#8cc0de", "#3f93c4", "#0067a3", "#00355c")
_DARK_MAP = ("#1b1f24", "#10364f", "#0a5784", "#2a82b8", "#6cb6e6", "#d8eefc")


@contextlib.contextmanager
def theme(dark: bool) -> Iterator[None]:
    """Within it, figures are drawn and saved for a page, on no background of their own.

    Args:
      dark: whether the page is (about #14171a); a light one is about #ffffff.
    """
    text, quiet, line = _TEXT[dark], _QUIET[dark], _LINE[dark]
    with (
        fonts.fallbacks(),
        matplotlib.rc_context(
            {
                "figure.facecolor": "none",
                "axes.facecolor": "none",
                "savefig.facecolor": "none",
                "text.color": text,
                "text.parse_math": False,  # a dollar sign in the name of a class is one
                "axes.labelcolor": text,
                "axes.titlecolor": text,
                "axes.edgecolor": quiet,
                "axes.titlesize": 10.5,
                "axes.prop_cycle": cycler(color=[*COLOURS[:-1], text]),
                "axes.axisbelow": True,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.unicode_minus": True,
                "xtick.color": quiet,
                "ytick.color": quiet,
                "xtick.labelcolor": text,
                "ytick.labelcolor": text,
                "xtick.labelsize": 9,
                "ytick.labelsize": 9,
                "grid.color": line,
                "grid.linewidth": 0.8,
                "legend.frameon": False,
                "legend.fontsize": 9,
                "font.size": 10,
                "image.cmap": "cividis",
            }
        ),
    ):
        yield


def png(draw: Callable[[], Figure], dark: bool, dpi: int = 144) -> bytes:
    """Returns a figure as a PNG with a transparent background, the same bytes each time.

    Args:
      draw: returns the figure, drawn anew.
      dark: whether it is for a dark page.
      dpi: pixels an inch.
    """
    with theme(dark):
        figure = draw()
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
        figure.clear()
    return content.getvalue()


def save(figure: Figure, title: str, path: Path) -> None:
    """Writes a figure that was drawn within a light theme as a PNG on white, within it, too.

    Args:
      figure: gets the title.
      title: above the axes.
      path: of the PNG to write.
    """
    room = 0.95 * figure.get_figwidth()
    figure.suptitle(lettering.wrapped(fonts.legible(title), room, 11), fontsize=11)
    with replacing(path) as partial:
        figure.savefig(
            partial, dpi=150, facecolor="white", metadata={"Software": None}, format="png"
        )


def colour(i: int) -> str:
    """Returns the i-th colour for a line or for points, visible on the theme's page."""
    chosen = COLOURS[i % len(COLOURS)]
    return ink() if chosen == "#000000" else chosen


def marker(i: int) -> str:
    """Returns a marker such that no two of the first 49 pairs of colour and marker are the same."""
    return MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]


def ink() -> str:
    """Returns the colour of the theme's text."""
    return matplotlib.rcParams["text.color"]


def quiet() -> str:
    """Returns the theme's colour of what should stand back: axes, diagonals, references."""
    return matplotlib.rcParams["axes.edgecolor"]


def sequential() -> Colormap:
    """Returns a colour map of amounts, whose lowest colour is near the theme's page."""
    return LinearSegmentedColormap.from_list("tl", _DARK_MAP if _is_dark() else _LIGHT_MAP)


def continuous() -> Colormap:
    """Returns a colour map of numbers, all of whose colours are visible on the theme's page."""
    low, high = (0.25, 1.0) if _is_dark() else (0.0, 0.85)
    return ListedColormap(matplotlib.colormaps["viridis"](np.linspace(low, high, 256)))


def root_scale(highest: float) -> PowerNorm:
    """Returns the scale of colours from 0 to `highest` that shows small values: a square root."""
    return PowerNorm(0.5, vmin=0, vmax=highest)


def text_on(background: Iterable[float]) -> str:
    """Returns black or white, whichever contrasts more with a colour (WCAG 2.1).

    Args:
      background: red, green and blue, 0 to 1; what follows is ignored.
    """
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in list(background)[:3]
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def log_axis(axes: Axes) -> None:
    """Makes x logarithmic, with plain numbers."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < 1000 * low:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:  # at which decades Matplotlib writes a number differs by its version
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        every = -(-(last - first) // 8)
        decades = [10.0**k for k in range(first, last + 1) if k % every == 0]
        axes.xaxis.set_major_locator(FixedLocator(decades))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def error_lengths(values: Iterable[tuple[float, Sequence[float]]]) -> list[list[float]]:
    """Returns the lengths of error bars in percent, those below and those above.

    Args:
      values: means and their intervals (low, high), fractions; at least one.
    """
    # The mean of equal seeds may round to just outside their range.
    below, above = zip(
        *((max(0.0, mean - low), max(0.0, high - mean)) for mean, (low, high) in values)
    )
    return [[100 * v for v in below], [100 * v for v in above]]


def _is_dark() -> bool:
    return ink() == _TEXT[True]
