"""The pictures in a run's folder, made from its result alone; `figures` draws them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tl.report import figures, style
from tl.report.style import COLOURS as COLOURS
from tl.report.style import MARKERS as MARKERS


def accuracy_over_endpoint(study: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Writes `figures.accuracy_over_endpoint` as a PNG on white.

    Args:
      study: rows, see there.
      title: above the axes.
      path: of the PNG to write.
    """
    _write(lambda: figures.accuracy_over_endpoint(study), title, path)


def learning_curve(
    curve: Sequence[Mapping[str, Any]], kept: float, title: str, path: Path, loss: str = "softmax"
) -> None:
    """Writes `figures.learning_curve` as a PNG on white.

    Args:
      curve, kept, loss: see there.
      title: above the axes.
      path: of the PNG to write.
    """
    _write(lambda: figures.learning_curve(curve, kept, loss), title, path)


def _write(draw: Callable[[], Figure], title: str, path: Path) -> None:
    with style.theme(dark=False):
        style.save(draw(), title, path)
