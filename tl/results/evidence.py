"""Predictions, features and example images, saved by each run for reports and comparisons."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tl.results.examples import save_examples, telling_examples
from tl.results.predictions import PREDICTIONS, Predictions
from tl.results.projection import Projection, save_features


def write(
    workdir: Path,
    predictions: Predictions,
    projection: Projection,
    image: Callable[[str, int], np.ndarray],
) -> None:
    """Writes predictions, features and example images into a run's folder; only process 0 writes.

    Args:
      workdir: the run's folder.
      predictions: of the run's heads.
      projection: of the features that the head acts on.
      image: ('test' or 'val', row of `predictions`) -> uint8 [H, W, 3].
    """
    from tl import hosts  # imports JAX, which reading a run need not wait for

    if not hosts.is_first():
        return
    predictions.save(workdir / PREDICTIONS)
    save_features(workdir, projection)
    save_examples(workdir, telling_examples(predictions), image)
