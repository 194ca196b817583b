"""The figure of a folder of runs: what accuracy cost how much time."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox, BboxBase

from tl.report import fonts, lettering, style

# Where a name may stand, from the best place on: at which end of the interval (-1, 0 for the point
# itself, 1), on which side of it, and how far off in points.
_PLACES = (
    (0, "right", "bottom", (-7, 4)),
    (0, "left", "bottom", (7, 4)),
    (0, "right", "top", (-7, -4)),
    (0, "left", "top", (7, -4)),
    (1, "right", "bottom", (4, 5)),
    (1, "left", "bottom", (-4, 5)),
    (-1, "right", "top", (4, -5)),
    (-1, "left", "top", (-4, -5)),
)


def accuracy_over_cost(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws test accuracy over the seconds it took, naming runs that no run as fast equals.

    Args:
      rows: `name`, `kind`, `top1` and `ci95` (fractions; ci95 may be None), `seconds`; rows
        without accuracy or seconds are ignored.

    Raises:
      ValueError: no row is left.
    """
    rows = [row for row in rows if row["top1"] is not None and row["seconds"]]
    if not rows:
        raise ValueError("expected a row with accuracy and seconds")
    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axes = figure.subplots()
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    for i, kind in enumerate(kinds):
        own = [row for row in rows if row["kind"] == kind]
        axes.errorbar(
            [row["seconds"] for row in own],
            [100 * row["top1"] for row in own],
            yerr=style.error_lengths((row["top1"], _interval(row)) for row in own),
            color=style.colour(i),
            marker=style.marker(i),
            markersize=6,
            linestyle="none",
            elinewidth=1,
            capsize=2,
            label=kind,
        )
    axes.margins(x=0.12, y=0.12)
    style.log_axis(axes)
    axes.set_xlabel("time of the run (seconds)")
    axes.set_ylabel("test top-1 accuracy (%, 95 % interval)")
    axes.grid(axis="y")
    if len(kinds) > 1:
        figure.legend(loc="outside lower center", ncols=len(kinds))
    figure.draw_without_rendering()
    _name(axes, _pareto(rows), rows)
    return figure


def _interval(row: Mapping[str, Any]) -> Sequence[float]:
    return row["ci95"] or (row["top1"], row["top1"])


def _pareto(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the rows that no row as fast equals, the most accurate first."""
    best: list[Mapping[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row["seconds"], -row["top1"])):
        if not best or row["top1"] > best[0]["top1"]:
            best.insert(0, row)
    return best


def _name(
    axes: Axes, named: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Writes names beside the points of a laid-out figure, where there is room."""
    taken = []
    for row in rows:
        ends = [(row["seconds"], 100 * value) for value in _interval(row)]
        taken.append(Bbox(axes.transData.transform(ends)).padded(4))
    for row in named:
        low, high = _interval(row)
        heights = {0: 100 * row["top1"], 1: 100 * high, -1: 100 * low}
        text = axes.annotate(
            lettering.shortened(fonts.legible(row["name"]), 2.6, 9),
            (row["seconds"], 0),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=9,
        )
        if (box := _placed(text, heights, axes.bbox, taken)) is None:
            text.remove()
        else:
            taken.append(box)


def _placed(
    text: Annotation, heights: Mapping[int, float], inside: BboxBase, taken: Sequence[Bbox]
) -> Bbox | None:
    """Moves a text to the first free place and returns its box, or None where there is none."""
    for end, ha, va, offset in _PLACES:
        text.xy = (text.xy[0], heights[end])
        text.set(ha=ha, va=va)
        text.xyann = offset
        box = text.get_window_extent()
        corners = ((box.x0, box.y0), (box.x1, box.y1))
        if all(inside.contains(*c) for c in corners) and not any(map(box.overlaps, taken)):
            return box
    return None
