"""Pictures of a run's results, made from its result file alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's colour-blind safe colours; the marker tells the lines apart in grey, too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"


def accuracy_over_endpoint(study: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draws test accuracy over endpoint, one line for each number of examples a class.

    Args:
      study: rows with `endpoint`, `examples_per_class` (0 is all), `test_top1` and
        `test_top1_range`, fractions; endpoints in the order they are to be drawn.
      title: above the axes.
      path: of the PNG to write.
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
    figure, axes = plt.subplots(
        figsize=(max(5, 1.6 + 0.52 * len(endpoints)), 5), layout="constrained"
    )
    for i, k in enumerate(dict.fromkeys(row["examples_per_class"] for row in study)):
        rows = {r["endpoint"]: r for r in study if r["examples_per_class"] == k}
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        label = f"{k} examples a class" if k else "all examples"
        for group in (raw, single, joined):
            drawn = [e for e in group if e in rows]
            if not drawn:
                continue
            mean = [100 * rows[e]["test_top1"] for e in drawn]
            low, high = zip(*([100 * v for v in rows[e]["test_top1_range"]] for e in drawn))
            # The mean of equal seeds may round to just outside their range.
            spread = [
                [max(0.0, m - v) for m, v in zip(mean, low)],
                [max(0.0, v - m) for m, v in zip(mean, high)],
            ]
            axes.errorbar(
                [x[e] for e in drawn],
                mean,
                yerr=spread,
                color=colour,
                marker=marker,
                markersize=5,
                linewidth=1.6 if group is single else 0,
                elinewidth=1,
                capsize=2,
                label=label,
            )
            label = None
        if raw and "pixels" in rows:
            baseline = 100 * rows["pixels"]["test_top1"]
            axes.axhline(baseline, color=colour, linestyle=":", linewidth=1)
    axes.set_xticks(
        [x[e] for e in endpoints],
        [e.replace("stage", "s") if "+" in e else e for e in endpoints],
        rotation=50,
        ha="right",
    )
    axes.set_xlabel("endpoint of the network (s3+s4: concatenated); bars: range over seeds")
    axes.set_ylabel("test top-1 accuracy (%)")
    axes.set_title(title, fontsize=11)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=4, fontsize=9)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


def learning_curve(curve: Sequence[Mapping[str, Any]], kept: float, title: str, path: Path) -> None:
    """Draws loss and accuracy of a training run over its epochs.

    Args:
      curve: rows with `epoch`, `train_loss` and `train_top1` (means since the row before, or None)
        and `val_loss` and `val_top1`; accuracies are fractions.
      kept: epoch of the row whose network was kept.
      title: above the axes.
      path: of the PNG to write.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for axes, name, scale, label in (
        (left, "loss", 1, "cross-entropy (nats)"),
        (right, "top1", 100, "top-1 accuracy (%)"),
    ):
        for i, (part, text) in enumerate((("train", "train, as trained"), ("val", "val"))):
            rows = [row for row in curve if row[f"{part}_{name}"] is not None]
            axes.plot(
                [row["epoch"] for row in rows],
                [scale * row[f"{part}_{name}"] for row in rows],
                color=COLOURS[i],
                marker=MARKERS[i],
                markersize=4,
                linewidth=1.6,
                label=text,
            )
        axes.axvline(kept, color="0.6", linestyle=":", linewidth=1, label="kept")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)
