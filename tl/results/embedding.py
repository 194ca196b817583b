"""Features as points in the plane."""

import numpy as np
from sklearn.manifold import TSNE


def pca(coordinates) -> np.ndarray:
    """Returns the first two principal coordinates, float64 [n, 2]; a missing one is 0.

    Args:
      coordinates: float [n, p], principal coordinates in the order of their variance.
    """
    points = np.asarray(coordinates, np.float64)[:, :2]
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def tsne(coordinates, seed: int = 0) -> np.ndarray:
    """Places points so that neighbours stay neighbours (van der Maaten and Hinton 2008).

    Distances between far groups, and the sizes of groups, mean little. It starts from the first
    two coordinates, with perplexity 30, or a third of the other points where they are fewer.

    Args:
      coordinates: float [n, p], principal coordinates in the order of their variance.
      seed: of what is random; the same seed gives the same points on one machine.

    Returns:
      float64 [n, 2]; as `pca` where there are fewer than four points, or all are one.
    """
    coordinates = np.asarray(coordinates, np.float64)
    start = pca(coordinates)
    count = len(coordinates)
    if count < 4 or not start.std():
        return start
    # Its start from "pca" wants two coordinates at least.
    wide = coordinates if coordinates.shape[1] > 1 else start
    perplexity = min(30.0, (count - 1) / 3)
    embedding = TSNE(init="pca", perplexity=perplexity, random_state=seed, n_jobs=1)
    return embedding.fit_transform(wide).astype(np.float64)
