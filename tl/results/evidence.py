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
