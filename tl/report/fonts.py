"""The fonts of the pictures, and what stands in them for a name that no font can draw.

Matplotlib brings DejaVu Sans, which has the alphabets of Europe, Arabic and Hebrew, and no Chinese,
Japanese or Korean. Fonts of these are too large to bring along, but most machines have one.
"""

import contextlib
import functools
import logging
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence

import matplotlib
from matplotlib import font_manager

# Families that systems bring or that people install; those before are asked first.
FALLBACKS = (
    # Linux
    *(f"Noto Sans {name}" for name in ("CJK SC", "CJK JP", "CJK KR", "CJK TC", "SC", "JP", "KR")),
    *("Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("IPAGothic", "NanumGothic", "FreeSans", "FreeSerif", "Symbola", "Noto Emoji"),
    *(f"Noto Sans {name}" for name in ("Arabic", "Bengali", "Devanagari", "Tamil", "Thai")),
    # macOS
    *("Hiragino Sans", "Hiragino Sans GB", "PingFang SC", "Apple SD Gothic Neo"),
    "Arial Unicode MS",
    # Windows
    *("Microsoft YaHei", "Yu Gothic", "MS Gothic", "Malgun Gothic", "SimHei"),
    *("Nirmala UI", "Leelawadee UI", "Segoe UI Emoji", "Segoe UI Symbol"),
)
_OWN = "DejaVu Sans"
_BOX = "\N{WHITE SQUARE}"
_LISTED = 12  # characters at most
# Before, letters were set one by one from the left, as Arabic and Hindi cannot be read.
_SHAPES = tuple(map(int, matplotlib.__version__.split(".")[:2])) >= (3, 11)


@contextlib.contextmanager
def fallbacks() -> Iterator[None]:
    """Within it, text is drawn in any of the families, and nobody is warned of what they lack."""
    log = logging.getLogger(font_manager.__name__)
    level = log.level
    with matplotlib.rc_context({"font.family": families()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from")
        log.setLevel(logging.ERROR)  # a font of one weight is taken for every other
        try:
            yield
        finally:
            log.setLevel(level)


@functools.cache
def families() -> list[str]:
    """Returns the families of this machine in which text is drawn, DejaVu Sans first."""
    fonts = font_manager.fontManager
    # Matplotlib keeps its list of fonts, and never learns of one that is installed later.
    for path in {*font_manager.findSystemFonts()} - {font.fname for font in fonts.ttflist}:
        with contextlib.suppress(OSError, RuntimeError):  # no font, or one it cannot use
            fonts.addfont(path)
    installed = {font.name for font in fonts.ttflist}
    return [_OWN, *(name for name in FALLBACKS if name in installed)]


def drawable(text: str) -> bool:
    """Returns whether every character of a text can be drawn on this machine."""
    return all(map(_drawable, text))


def legible(text: str) -> str:
    """Returns a text with a box for every character that cannot be drawn."""
    return "".join(c if c == "\n" or _drawable(c) else _BOX for c in text)


def class_names(names: Sequence[str]) -> list[str]:
    """Returns the names of classes as pictures have them: '#' and its number for one of no font."""
    return [name if drawable(name) else f"#{i}" for i, name in enumerate(names)]


def about_classes(names: Iterable[str]) -> str:
    """Returns what to say of pictures with `class_names`; '' where all are drawn."""
    return _about(names, "such a class goes by its number, which the table of classes has")


def about(texts: Iterable[str]) -> str:
    """Returns what to say of pictures with `legible` texts; '' where all are drawn."""
    return _about(texts, f"{_BOX} stands for them")


def _about(texts: Iterable[str], standing: str) -> str:
    missing = sorted({c for text in texts for c in text if not _drawable(c)})
    if not missing:
        return ""
    listed = " ".join(missing[:_LISTED]) + " and others" * (len(missing) > _LISTED)
    return (
        f"No font of the machine that made this page can draw {listed}; in the pictures "
        f"{standing}. With a font that can, such as Noto Sans CJK, installed, experiments.report "
        "makes the page again."
    )


def _drawable(character: str) -> bool:
    known = ord(character) in _characters()
    if _SHAPES or not known:
        return known
    return unicodedata.bidirectional(character) not in ("R", "AL") and (
        unicodedata.category(character) != "Mc"
    )


@functools.cache
def _characters() -> frozenset[int]:
    with fallbacks():
        fonts = [font_manager.get_font(font_manager.findfont(name)) for name in families()]
    return frozenset().union(*(font.get_charmap() for font in fonts))
