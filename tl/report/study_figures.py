"""Pictures of a study, made from its `study.json` alone; to be drawn within `style.theme`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from tl.report import fonts, lettering, style

# Axes of a study as the axes of a plot name them; others go by their own name.
UNITS = {
    "examples": "labelled images a class, val among them",
    "resolution": "side of the images (px)",
    "endpoint": "endpoint of the network",
}
_ORDERED = ("endpoint", "examples")  # levels in an order that a line may follow, numbers or not
_LOG_FROM = 8  # largest over smallest number from which an axis is logarithmic
_ACCURACY = "test top-1 accuracy (%)"
_NAME_ROOM = 1.6  # inches that the name of a level may take

Study = Mapping[str, Any]
Cells = Mapping[tuple[str, ...], Mapping[str, Mapping[str, Any]]]


def study(study: Study) -> dict[str, Figure]:
    """Returns a study's figures by name: `accuracy`, of all cells, and `claims`, if there are any.

    Args:
      study: what `study.json` holds. Nothing is drawn of cells without a finished run.
    """
    figures = {}
    if rows := _rows(study):
        columns = study["columns"]
        ordered = columns in _ORDERED or _numbers(study["axes"][columns])
        figures["accuracy"] = _lines(study, rows) if ordered else _dots(study, rows)
    if judged := [claim for claim in study["claims"] if claim["difference"] is not None]:
        figures["claims"] = _claims(judged)
    return figures


def save(of_study: Study, folder: Path) -> list[Path]:
    """Writes every figure as a PNG on white, named after it; returns their paths.

    Args:
      of_study: what `study.json` holds.
      folder: where to.
    """
    paths = []
    with style.theme(dark=False):
        for name, figure in study(of_study).items():
            paths.append(folder / f"{name}.png")
            style.save(figure, of_study["title"], paths[-1])
    return paths


def _rows(study: Study) -> dict[tuple[str, ...], dict[str, Mapping[str, Any]]]:
    """Returns, by the levels of all axes but columns and seed, what is drawn of each column."""
    columns, others = study["columns"], _others(study)
    rows: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for cell in study["cells"]:
        if cell["mean"] is None:
            continue
        single = [
            run["test_top1"]
            for run in study["runs"]
            if run["status"] == "done" and cell["levels"].items() <= run["levels"].items()
        ]
        row = rows.setdefault(tuple(cell["levels"][axis] for axis in others), {})
        row[cell["levels"][columns]] = {**cell, "single": single}
    return rows


def _others(study: Study) -> list[str]:
    return [axis for axis in study["axes"] if axis not in (study["columns"], "seed")]


def _said(levels: Mapping[str, str], room: float, size: float) -> str:
    """Returns levels as a title that fits the room; numbers with what they are numbers of."""
    said = (f"{axis} {level}" if _numbers([level]) else level for axis, level in levels.items())
    return _fitted(", ".join(said), room, size)


def _fitted(text: str, room: float = _NAME_ROOM, size: float = 9) -> str:
    return lettering.shortened(fonts.legible(text), room, size)


def _numbers(levels: Sequence[str]) -> list[float]:
    """Returns the levels as numbers; none where one is not."""
    try:
        return [float(level) for level in levels]
    except ValueError:
        return []


def _dots(study: Study, rows: Cells) -> Figure:
    """Draws a panel for each row, with a dot and its interval for each column."""
    columns, others = study["columns"], _others(study)
    levels = study["axes"][columns]
    across = 1 if len(rows) == 1 else 2 if len(rows) <= 4 else 3
    down = math.ceil(len(rows) / across)
    named = [_fitted(level) for level in levels]
    left = max(lettering.width(name, 9) for name in named)
    figure = Figure(
        figsize=(max(5.5, 0.9 + left + 3.5 * across), down * (1.0 + 0.33 * len(levels)) + 0.9),
        layout="constrained",
    )
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, row in zip(panels.flat, rows.items()):
        names, cells = row
        best = max(cells, key=lambda level: cells[level]["mean"])
        for at, level in enumerate(levels):
            if level in cells:
                _dot(axes, cells[level], at, level == best)
        axes.set_title(_said(dict(zip(others, names)), 3.2, 10.5), loc="left")
        axes.grid(axis="x")
    for axes in panels.flat[len(rows) :]:
        axes.set_visible(False)
    for axes in [
        column[max(i for i in range(down) if column[i].get_visible())] for column in panels.T
    ]:
        axes.set_xlabel(_ACCURACY)
        axes.tick_params(labelbottom=True)
    axes = panels[0, 0]
    axes.set_yticks(range(len(levels)), named)
    axes.set_ylim(len(levels) - 0.5, -0.5)
    axes.set_xlim(*_limits(rows))
    for axes in panels[:, 0]:
        axes.set_ylabel(_fitted(columns, 0.33 * len(levels) + 0.6, 10))
    _explain(figure, study, "filled: the highest mean")
    return figure


def _dot(axes: Axes, cell: Mapping[str, Any], at: int, best: bool) -> None:
    colour = style.colour(1 if best else 0)
    axes.errorbar(
        100 * cell["mean"],
        at,
        xerr=style.error_lengths([(cell["mean"], cell["ci95"])]),
        color=colour,
        marker="o",
        markersize=7,
        markerfacecolor=colour if best else "none",
        markeredgewidth=1.5,
        elinewidth=1.4,
        capsize=3,
    )
    if len(cell["single"]) > 1:
        axes.plot(
            [100 * value for value in cell["single"]],
            [at] * len(cell["single"]),
            linestyle="none",
            marker="|",
            markersize=9,
            color=style.ink(),
        )


def _lines(study: Study, rows: Cells) -> Figure:
    """Draws a line for each row over the columns."""
    columns: str = study["columns"]
    levels = study["axes"][columns]
    numbers = _numbers(levels)
    x = dict(zip(levels, numbers or range(len(levels))))
    # The legend has a row a line.
    size = (max(7.5, 3 + 0.6 * len(levels)), max(4.6, 1 + 0.19 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    for i, (names, cells) in enumerate(rows.items()):
        drawn = sorted((x[level], cell) for level, cell in cells.items())
        axes.errorbar(
            [at for at, _ in drawn],
            [100 * cell["mean"] for _, cell in drawn],
            yerr=style.error_lengths((cell["mean"], cell["ci95"]) for _, cell in drawn),
            color=style.colour(i),
            marker=style.marker(i),
            markersize=5,
            linewidth=1.6,
            elinewidth=1,
            capsize=3,
            label=_fitted(", ".join(names)),
        )
    axes.set_xlabel(_fitted(UNITS.get(columns, columns), 4, 10))
    axes.set_ylabel(_ACCURACY)
    axes.set_ylim(*_limits(rows))
    axes.grid(axis="y")
    if not numbers:
        axes.set_xticks(
            range(len(levels)),
            [_fitted(level) for level in levels],
            rotation=40,
            ha="right",
            rotation_mode="anchor",
        )
    else:
        if min(numbers) > 0 and max(numbers) >= _LOG_FROM * min(numbers):
            axes.set_xscale("log")
        shown = _apart(axes, size[0] - 3, numbers, levels)
        axes.set_xticks(list(shown), list(shown.values()))
        axes.xaxis.set_minor_locator(NullLocator())
    if len(rows) > 1:
        figure.legend(loc="outside right upper", title=_fitted(", ".join(_others(study))))
    _explain(figure, study)
    return figure


def _apart(
    axes: Axes, room: float, numbers: Sequence[float], levels: Sequence[str]
) -> dict[float, str]:
    """Returns the numbers on x, with their levels, that have room beside the ones before.

    Args:
      axes: with their limits.
      room: inches that the axes are wide, at least.
      numbers: one for each level.
      levels: texts of the numbers.
    """
    shown: dict[float, str] = {}
    end = -1.0
    for number, level in sorted(zip(numbers, levels)):
        within, _ = axes.transAxes.inverted().transform(axes.transData.transform((number, 0)))
        half = lettering.width(level, 9) / 2
        if room * within - half > end:
            shown[number] = level
            end = room * within + half + 0.08
    return shown


def verdict(claim: Mapping[str, Any]) -> str:
    """Returns a claim's verdict, and that it is on images alone where it is."""
    alone = claim["difference"] is not None and over(claim) == "images alone"
    return f"{claim['verdict']}, images alone" if alone else str(claim["verdict"])


def over(claim: Mapping[str, Any]) -> str:
    """Returns what the interval of a decided claim is over."""
    # Studies from before intervals were over seeds do not say it.
    return str(claim.get("over", "images alone"))


def _claims(claims: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws by how much what each claim advises leads, or trails, the best of the rest."""
    figure = Figure(figsize=(8.5, 1.3 + 0.5 * len(claims)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=style.quiet(), linewidth=1)
    for at, claim in enumerate(claims):
        fails = claim["verdict"] == "does not hold"
        colour = style.colour(1 if fails else 0)
        axes.errorbar(
            100 * claim["difference"],
            at,
            xerr=style.error_lengths([(claim["difference"], claim["ci95"])]),
            color=colour,
            marker="X" if fails else "o",
            markersize=7,
            markerfacecolor=colour if claim["verdict"] != "within noise" else "none",
            elinewidth=1.4,
            capsize=3,
        )
    texts = [f"{_said({**c['where'], **c['advised']}, 2.4, 9)}\n{verdict(c)}" for c in claims]
    axes.set_yticks(range(len(claims)), texts)
    axes.set_ylim(len(claims) - 0.5, -0.5)
    axes.set_xlabel(
        "test top-1 of what is advised less that of the best other (percentage points);\n"
        f"bars: paired 95 % interval over {' or '.join(sorted({over(c) for c in claims}))}"
    )
    axes.grid(axis="x")
    return figure


def _limits(rows: Cells) -> tuple[float, float]:
    """Returns limits of accuracy in percent that show all means, and intervals as far as is fit.

    Student's interval of two seeds may span everything, and would leave the means no room.
    """
    cells = [cell for row in rows.values() for cell in row.values()]
    values = [100 * value for cell in cells for value in (cell["mean"], *cell["single"])]
    ends = [100 * end for cell in cells for end in cell["ci95"]]
    room = max(2.0, 0.15 * (max(values) - min(values)))
    low, high = max(min(ends), min(values) - room), min(max(ends), max(values) + room)
    margin = 0.04 * (high - low)
    return low - margin, min(high + margin, 100 + margin)


def _explain(figure: Figure, study: Study, more: str = "") -> None:
    """Says below a figure what its bars are."""
    intervals = dict.fromkeys(c["interval"] for c in study["cells"] if c["interval"])
    parts = [f"bars: 95 % interval ({'; '.join(intervals)})"]
    if any(name.startswith("t over") for name in intervals):
        parts[0] += ", cut off at the frame"
    if any(name.startswith("t over") for name in intervals) and more:
        parts.append("strokes: single seeds")
    text = "; ".join([*parts, *([more] if more else [])])
    figure.supxlabel(lettering.wrapped(text, figure.get_figwidth() - 0.3, 9), fontsize=9)
