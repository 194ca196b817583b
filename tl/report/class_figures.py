"""Figures of what a classifier says of classes; `figures` offers them with the others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tl.report import lettering, style
from tl.results import calibration, confusion
from tl.results.calibration import Reliability
from tl.results.intervals import wilson_interval

# Classes: so many have numbers in the cells of a matrix, a name on its edge, a cell; a legend.
_NUMBERS, _NAMES, _CELLS = 12, 40, 250
LEGEND = 20
_NAME_ROOM = 1.15  # inches that a name may take


def confusion_matrix(
    matrix: Int[np.ndarray, "c c"], names: Sequence[str], normalised: bool
) -> Figure:
    """Draws who is taken for whom, with numbers where there are at most twelve classes.

    Of more than 250 classes, several share a cell, which shows the highest of them.

    Args:
      matrix: int [C, C] counts, a true class a row; C from 1 to some thousands.
      names: C names, in the order of the rows.
      normalised: draws shares of each true class instead of counts.
    """
    values = 100 * confusion.normalised(matrix) if normalised else matrix
    count = len(matrix)
    numbers = count <= _NUMBERS
    figure = Figure(figsize=(5.2, 4.8) if numbers else (6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    # Errors are few beside what is right: the square root lets them be seen.
    scale = style.root_scale(100 if normalised else max(1, values.max()))
    together = -(-count // _CELLS)
    cells = _highest(values, together)
    edge = together * len(cells) - 0.5
    image = axes.imshow(cells, cmap=style.sequential(), norm=scale, extent=(-0.5, edge, edge, -0.5))
    unit = "share of the true class (%)" if normalised else "test images"
    if numbers:
        _write_numbers(axes, values, normalised, image.to_rgba(values))
    else:
        bar = figure.colorbar(image, label=f"{unit}, square-root scale", shrink=0.8)
        bar.outline.set_visible(False)
    every = -(-count // _NAMES)
    ticks = range(0, count, every)
    size = 9 if len(ticks) <= _NUMBERS else 7
    shown = [lettering.shortened(names[i], _NAME_ROOM, size) for i in ticks]
    widest = max(lettering.width(name, size) for name in shown)
    upright = len(ticks) * (widest + 0.1) > 3  # inches that the matrix is wide, at least
    axes.set_xticks(ticks, shown, rotation=90 if upright else 0, fontsize=size)
    axes.set_yticks(ticks, shown, fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    about = f" (one in {every} named)" if every > 1 else ""
    shared = f"\na cell: the highest of {together} x {together} classes" if together > 1 else ""
    axes.set_xlabel(f"predicted class{about}{f', {unit}' if numbers else ''}{shared}")
    axes.set_ylabel(f"true class{about}")
    return figure


def reliability(before: Reliability, after: Reliability, temperature: float) -> Figure:
    """Draws accuracy over confidence, before and after temperature scaling, and how many have it.

    Args:
      before: of the probabilities at temperature 1.
      after: of the probabilities at `temperature`.
      temperature: what the logits were divided by.
    """
    figure = Figure(figsize=(8.4, 5), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[3, 1])
    bound = ", a bound" if temperature in calibration.TEMPERATURES else ""
    titles = ("before scaling", f"temperature {temperature:.3g}{bound}")
    for (upper, lower), bins, title in zip(grid.T, (before, after), titles):
        filled = bins.counts > 0
        confidence, accuracy = 100 * bins.confidence[filled], 100 * bins.accuracy[filled]
        interval = 100 * np.array(
            [
                wilson_interval(round(a / 100 * count), int(count))
                for a, count in zip(accuracy, bins.counts[filled])
            ]
        )
        ideal = upper.plot([0, 100], [0, 100], "--", color=style.quiet(), linewidth=1.2)
        points = upper.errorbar(
            confidence,
            accuracy,
            yerr=np.maximum(0, np.stack([accuracy - interval[:, 0], interval[:, 1] - accuracy])),
            color=style.colour(0),
            marker=style.marker(0),
            markersize=5,
            linestyle="none",
            elinewidth=1,
            capsize=2,
        )
        upper.set_title(f"{title}: ECE {100 * bins.ece:.1f} %", loc="left")
        shares = 100 * bins.counts / max(1, bins.counts.sum())
        left, width = 100 * bins.edges[:-1], 94 * np.diff(bins.edges)
        lower.bar(left, shares, align="edge", width=width, color=style.colour(0))
        lower.set_xlabel("confidence: probability of the predicted class (%)")
        upper.set(xlim=(0, 101), ylim=(-2, 102))
        for axes in (upper, lower):
            axes.grid(axis="y")
    grid[0, 0].set_ylabel("accuracy (%)")
    grid[1, 0].set_ylabel("images (%)")
    figure.legend(
        [points, ideal[0]],
        ["images of a bin, with 95 % interval (Wilson)", "accuracy equals confidence"],
        loc="outside lower center",
        ncols=2,
    )
    return figure


def scatter(
    points: Float[np.ndarray, "n 2"],
    labels: Int[np.ndarray, " n"],
    names: Sequence[str],
    title_axes: str,
) -> Figure:
    """Draws examples as points in a plane, coloured by class.

    Up to 20 classes have a colour and a marker each, and a legend; of more, the colour is the
    number of the class, from dark to light.

    Args:
      points: float [n, 2], n >= 1.
      labels: int [n], 0..C-1.
      names: C names.
      title_axes: what the axes are, such as 'principal component'; 1 and 2 are added.
    """
    look: dict[str, Any] = {"s": 16, "alpha": 0.8, "linewidths": 0}
    if len(names) > LEGEND:
        figure = Figure(figsize=(5.2, 5.2), layout="constrained")
        axes = figure.subplots()
        x, y = points.T
        axes.scatter(x, y, c=labels, cmap=style.continuous(), vmin=0, vmax=len(names) - 1, **look)
        about = f"\ncolour: number of the class, 0 dark to {len(names) - 1:,} light"
    else:
        present = np.unique(labels)
        shown = [lettering.shortened(names[c], _NAME_ROOM, 9) for c in present]
        widest = max(lettering.width(name, 9) for name in shown)
        columns = min(5, int(5 / (widest + 0.45)))  # the marker and the gaps take 0.45 inches
        height = 4.8 + 0.19 * -(-len(shown) // columns)
        figure = Figure(figsize=(5.2, height), layout="constrained")
        axes = figure.subplots()
        for c, name in zip(present, shown):
            x, y = points[labels == c].T
            axes.scatter(x, y, color=style.colour(c), marker=style.marker(c), label=name, **look)
        figure.legend(
            loc="outside lower center",
            ncols=columns,
            columnspacing=1,
            handletextpad=0.2,
            markerscale=1.4,
        )
        about = ""
    axes.set_xlabel(f"{title_axes} 1{about}")
    axes.set_ylabel(f"{title_axes} 2")
    axes.tick_params(labelsize=8)
    axes.set_box_aspect(1)
    axes.set_aspect("equal", adjustable="datalim")  # distances are compared in every direction
    return figure


def _highest(values: Real[np.ndarray, "c c"], together: int) -> Real[np.ndarray, "cells cells"]:
    """Returns the maxima of blocks of `together` x `together` values, the last ones smaller."""
    starts = np.arange(0, len(values), together)
    return np.maximum.reduceat(np.maximum.reduceat(values, starts, axis=0), starts, axis=1)


def _write_numbers(
    axes: Axes,
    values: Real[np.ndarray, "c c"],
    shares: bool,
    backgrounds: Float[np.ndarray, "c c 4"],
) -> None:
    """Writes all values but zero into the cells of a matrix."""
    for (i, j), value in np.ndenumerate(values):
        if not value:
            continue
        text = f"{value:.1f}" if shares and value < 99.95 else f"{value:.0f}"
        axes.text(
            j,
            i,
            text,
            color=style.text_on(backgrounds[i, j]),
            fontsize=9 if len(values) <= 10 else 7.5,
            ha="center",
            va="center",
        )
