"""Figures of results. Each function returns one, to be called within `style.theme`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tl.report import lettering, style
from tl.report.class_figures import confusion_matrix, reliability, scatter
from tl.report.cost_figure import accuracy_over_cost

__all__ = [
    "accuracy_over_cost",
    "accuracy_over_endpoint",
    "confusion_matrix",
    "l2_curves",
    "learning_curve",
    "reliability",
    "scatter",
]

_LINES = 7  # so many a person tells apart
_NAME_ROOM = 1.6  # inches that the name of an endpoint may take


def learning_curve(
    curve: Sequence[Mapping[str, Any]], kept: float, loss: str = "softmax"
) -> Figure:
    """Draws loss and accuracy of a training run over its epochs.

    Args:
      curve: rows with `epoch`, `train_loss` and `train_top1` (means since the row before, or None)
        and `val_loss` and `val_top1`; accuracies are fractions.
      kept: epoch of the row whose network was kept.
      loss: name of the training loss.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, name, scale, label in (
        (left, "loss", 1, "cross-entropy (nats)" if loss == "softmax" else f"{loss} loss"),
        (right, "top1", 100, "top-1 accuracy (%)"),
    ):
        for i, (part, text) in enumerate((("train", "train, as trained"), ("val", "val"))):
            rows = [row for row in curve if row[f"{part}_{name}"] is not None]
            axes.plot(
                [row["epoch"] for row in rows],
                [scale * row[f"{part}_{name}"] for row in rows],
                color=style.colour(i),
                marker=style.marker(i),
                markersize=4,
                # Markers are for few rows; of many they would hide the line.
                markevery=max(1, len(rows) // 25),
                linewidth=1.6,
                label=text,
            )
        axes.axvline(kept, color=style.quiet(), linestyle=":", linewidth=1.2, label="kept")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(axis="y")
    left.legend()
    return figure


def l2_curves(grid: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws val accuracy over the strength of L2, a line an endpoint, a panel a solver.

    Of many endpoints, the seven that reach most are coloured; a large marker is a line's highest.

    Args:
      grid: rows of `result.json` with `endpoint`, `solver`, `l2`, `val_top1` (a fraction) and
        `val_loss`; rows of several seeds are averaged where all have them, rows without `l2` are
        ignored.

    Raises:
      ValueError: no row has an `l2`.
    """
    lines = _l2_lines(grid)
    if not lines:
        raise ValueError("expected a row with an l2")
    solvers = list(dict.fromkeys(solver for solver, _ in lines))
    reached: dict[str, float] = {}
    for (_, endpoint), line in lines.items():
        reached[endpoint] = max(reached.get(endpoint, 0), line[0][1])
    endpoints = sorted(reached, key=lambda endpoint: -reached[endpoint])
    # A panel, beside the legend, is as wide as what is below it.
    figure = Figure(figsize=(max(8, 2.5 + 3.5 * len(solvers)), 4.4), layout="constrained")
    panels = figure.subplots(1, len(solvers), sharey=True, squeeze=False)[0]
    handles: dict[str, Any] = {}
    # The best are drawn last, over the others.
    for i, endpoint in reversed(list(enumerate(endpoints))):
        for axes, solver in zip(panels, solvers):
            if (solver, endpoint) not in lines:
                continue
            best, line = lines[solver, endpoint]
            if i >= _LINES:
                (drawn,) = axes.plot(*line, color=style.quiet(), linewidth=0.8, alpha=0.5)
                handles[f"{len(endpoints) - _LINES} others"] = drawn
                continue
            look = {"color": style.colour(i), "marker": style.marker(i)}
            (drawn,) = axes.plot(*line, **look, markersize=4, linewidth=1.4, label=endpoint)
            drawn.set_markevery(max(1, len(line[0]) // 12))
            axes.plot(*best, **look, markersize=9, markeredgecolor=style.ink(), linestyle="none")
            handles[endpoint] = drawn
    for axes, solver in zip(panels, solvers):
        style.log_axis(axes)
        axes.set_xlabel(f"L2 strength, {solver} (large marker: the highest)")
        axes.grid(axis="y")
    panels[0].set_ylabel("val top-1 accuracy (%)")
    if len(endpoints) == 1:
        panels[0].set_title(lettering.shortened(endpoints[0], 6, 10.5), loc="left")
    else:
        others = [name for name in handles if name not in reached]
        order = [*endpoints[:_LINES], *others]
        named = [lettering.shortened(name, _NAME_ROOM, 9) for name in order]
        figure.legend([handles[name] for name in order], named, loc="outside right upper")
    return figure


def _l2_lines(grid: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple]:
    """Returns, for each solver and endpoint, the best (l2, percent) and the line, l2s and percents.

    Of equal accuracies the lower loss is better.
    """
    groups: dict[tuple[str, str], dict[float, list]] = {}
    for row in grid:
        if "l2" in row:
            line = groups.setdefault((row["solver"], row["endpoint"]), {})
            line.setdefault(row["l2"], []).append((100 * row["val_top1"], row["val_loss"]))
    lines = {}
    for key, line in groups.items():
        most = max(map(len, line.values()))  # what some seeds did not try would bend the mean
        means = {l2: np.mean(line[l2], axis=0) for l2 in sorted(line) if len(line[l2]) == most}
        best = min(means, key=lambda l2: (-means[l2][0], means[l2][1]))
        top1 = [mean[0] for mean in means.values()]
        lines[key] = (best, means[best][0]), (list(means), top1)
    return lines


def accuracy_over_endpoint(study: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws test accuracy over endpoint, one line for each number of examples a class.

    Args:
      study: rows with `endpoint`, `examples_per_class` (0 is all), `test_top1` and
        `test_top1_range`, fractions; endpoints in the order they are to be drawn.
    """
    endpoints = list(dict.fromkeys(row["endpoint"] for row in study))
    raw = [e for e in endpoints if e == "pixels"]
    single = [e for e in endpoints if "+" not in e and e not in raw]
    joined = [e for e in endpoints if "+" in e]
    # A gap parts the layers of the network, in order, from raw pixels and from concatenations.
    x, at = {}, 0.0
    for group in (raw, single, joined):
        for endpoint in group:
            x[endpoint] = at
            at += 1
        at += 0.6 if group else 0
    width = max(5, 1.6 + 0.52 * len(endpoints))
    figure = Figure(figsize=(width, 5), layout="constrained")
    axes = figure.subplots()
    for i, k in enumerate(dict.fromkeys(row["examples_per_class"] for row in study)):
        rows = {r["endpoint"]: r for r in study if r["examples_per_class"] == k}
        label: str | None = f"{k} examples a class" if k else "all examples"
        for group in (raw, single, joined):
            drawn = [e for e in group if e in rows]
            if not drawn:
                continue
            axes.errorbar(
                [x[e] for e in drawn],
                [100 * rows[e]["test_top1"] for e in drawn],
                yerr=style.error_lengths(
                    (rows[e]["test_top1"], rows[e]["test_top1_range"]) for e in drawn
                ),
                color=style.colour(i),
                marker=style.marker(i),
                markersize=5,
                linewidth=1.6 if group is single else 0,
                elinewidth=1,
                capsize=2,
                label=label,
            )
            label = None
        if raw and "pixels" in rows:
            baseline = 100 * rows["pixels"]["test_top1"]
            axes.axhline(baseline, color=style.colour(i), linestyle=":", linewidth=1)
    axes.set_xticks(
        [x[e] for e in endpoints],
        [
            lettering.shortened(e.replace("stage", "s") if "+" in e else e, _NAME_ROOM, 9)
            for e in endpoints
        ],
        rotation=50,
        ha="right",
        rotation_mode="anchor",
    )
    about = ["bars: range over seeds"]
    if joined:
        about.insert(0, "s3+s4: concatenated")
    if raw:
        about.append("dotted: raw pixels")
    about_x = f"endpoint of the network ({'; '.join(about)})"
    axes.set_xlabel(lettering.wrapped(about_x, width - 1.4, 10))
    axes.set_ylabel("test top-1 accuracy (%)")
    axes.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=min(4, int(width / 2)))
    return figure
