"""What a run leaves for reports and comparisons: its predictions, features and telling examples."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tl.evidence.examples import load_examples, save_examples, telling_examples
from tl.evidence.predictions import PREDICTIONS, Predictions
from tl.evidence.projection import Projection, load_features, project, save_features, spaced_rows

__all__ = [
    "PREDICTIONS",
    "Predictions",
    "Projection",
    "load_examples",
    "load_features",
    "project",
    "save_examples",
    "save_features",
    "spaced_rows",
    "telling_examples",
    "write",
]


def write(
    workdir: Path,
    predictions: Predictions,
    projection: Projection,
    image: Callable[[str, int], np.ndarray],
) -> None:
    """Writes all of a run's evidence into its folder; of several processes, the first does.

    Args:
      workdir: the run's folder.
      predictions: of its heads.
      projection: of its features.
      image: ('test' or 'val', row of `predictions`) -> uint8 [H, W, 3].
    """
    from tl import devices  # imports JAX, which those who only read do without

    if devices.process_share()[0]:
        return
    predictions.save(workdir / PREDICTIONS)
    save_features(workdir, projection)
    save_examples(workdir, telling_examples(predictions), image)
