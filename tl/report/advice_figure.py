"""The figure of advice: accuracy over the number of images, measured, fitted and expected."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tl.report import lettering, style
from tl.results.intervals import wilson_interval


def accuracy_over_images(result: Mapping[str, Any]) -> Figure:
    """Draws the curve that the expected accuracy rests on, to be called within `style.theme`.

    The errors of the chosen probe are fitted by a power of the number n of images, a n^-b. Beyond
    the images measured, the errors are expected to fall with half of b, from those on images that
    neither the probe nor its choice has seen (`tl.advice.curves`). The other endpoints stand back.

    Args:
      result: what `result.json` of advice holds.
    """
    similarity, images = result["similarity"], result["data"]["images"]
    b, held_out = similarity["exponent"], similarity["held_out"]
    probe = next(choice for choice in result["choices"] if choice["endpoint"])
    measured = {row["endpoint"]: _points(row["top1"]) for row in result["endpoints"]}
    sizes, top1 = measured.pop(probe["endpoint"])

    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axes = figure.subplots()
    for i, (x, y) in enumerate(measured.values()):
        look: dict[str, Any] = {"color": style.quiet(), "linewidth": 0.8, "alpha": 0.5}
        axes.plot(x, 100 * y, **look, label="other endpoints" if not i else None)
    intervals = [wilson_interval(round(held_out * share), held_out) for share in top1]
    blue: dict[str, Any] = {"color": style.colour(0)}
    axes.errorbar(
        sizes,
        100 * top1,
        yerr=style.error_lengths(zip(top1, intervals)),
        **blue,
        marker=style.marker(0),
        markersize=6,
        linestyle="none",
        elinewidth=1,
        capsize=3,
        label=f"{lettering.shortened(probe['endpoint'], 2, 9)}, measured",
    )
    along = np.geomspace(sizes[0], sizes[-1], 50)
    # As the exponent was fitted: half an example is added, for no sample shows no errors.
    errors = ((1 - top1) * held_out + 0.5) / (held_out + 1)
    a = np.exp(np.mean(np.log(errors) + b * np.log(sizes)))
    axes.plot(
        along, 100 * (1 - a * along**-b), **blue, linewidth=1.4, label=f"fitted: error a n^-{b:.2g}"
    )
    if images > sizes[-1]:
        beyond = np.geomspace(sizes[-1], images, 50)
        error = (1 - probe["top1"]) * (beyond / images) ** (-b / 2)
        axes.plot(
            beyond,
            100 * (1 - error),
            "--",
            **blue,
            linewidth=1.4,
            label=f"expected: n^-{b / 2:.2g}",
        )
    # Side by side, so that both intervals are seen.
    for i, choice in enumerate(sorted(result["choices"], key=lambda choice: choice is not probe)):
        axes.errorbar(
            images * 1.06**i,
            100 * choice["top1"],
            yerr=style.error_lengths([(choice["top1"], choice["top1_interval"])]),
            color=style.colour(i),
            marker=style.marker(i),
            markersize=8,
            markerfacecolor="none",
            markeredgewidth=1.5,
            elinewidth=1.4,
            capsize=3,
            linestyle="none",
            label=f"expected of {choice['method']}",
        )
    style.log_axis(axes)
    axes.set_xlabel("images to train on")
    axes.set_ylabel("top-1 accuracy (%, 95 % interval)")
    axes.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _points(top1: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns numbers of images, rising, and the accuracy with each."""
    points = sorted((int(size), share) for size, share in top1.items())
    sizes, shares = np.array(points, float).T
    return sizes, shares
