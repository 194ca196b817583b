"""Features of some test images as points in a plane: principal coordinates, PCA and t-SNE."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from tl.results import arrays

FEATURES = "features.npz"
MOST_ROWS = 1000
MOST_COORDINATES = 50


@dataclass(frozen=True)
class Projection:
    """Some test rows in the principal coordinates of the features that the head acts on.

    Attributes:
      rows: int64 [n], rows among the test rows.
      coordinates: float32 [n, p], p >= 1, the coordinate of the largest variance first.
      explained: float32 [p], share of the variance along each coordinate.
      endpoint: the endpoint that the features come from.
    """

    rows: Int[np.ndarray, " n"]
    coordinates: Float[np.ndarray, "n p"]
    explained: Float[np.ndarray, " p"]
    endpoint: str


def spaced_rows(count: int) -> Int[np.ndarray, " n"]:
    """Returns at most MOST_ROWS of `count` rows, evenly spaced, int64."""
    return np.linspace(0, count - 1, min(count, MOST_ROWS)).round().astype(np.int64)


def project(
    features: Float[np.ndarray, "n d"],
    rows: Int[np.ndarray, " n"],
    endpoint: str,
    standardise: bool,
) -> Projection:
    """Returns the first MOST_COORDINATES principal coordinates of features.

    Args:
      features: float [n, D], n >= 1.
      rows: int64 [n], the features' rows among the test rows.
      endpoint: the endpoint that the features come from.
      standardise: scale each feature to unit variance first, as a head that standardises does.
    """
    # scikit-learn takes seconds to import, which reading a projection need not wait for.
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler(with_std=standardise).fit_transform(np.float32(features))
    if scaled.any():
        model = PCA(min(MOST_COORDINATES, len(features) - 1, features.shape[1]), random_state=0)
        coordinates, explained = model.fit_transform(scaled), model.explained_variance_ratio_
    else:  # there is one row, or all rows are equal
        coordinates, explained = np.zeros((len(rows), 1)), np.zeros(1)
    return Projection(rows, coordinates.astype(np.float32), explained.astype(np.float32), endpoint)


def pca(coordinates: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n 2"]:
    """Returns the first two principal coordinates, float64 [n, 2]; if p = 1, the second is 0.

    Args:
      coordinates: float [n, p], principal coordinates, the one of the largest variance first.
    """
    points = np.asarray(coordinates, np.float64)[:, :2]
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def tsne(coordinates: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n 2"]:
    """Places points so that neighbours stay neighbours (van der Maaten and Hinton 2008).

    Distances between far groups mean little, and so do the sizes of groups. The search starts
    from the first two coordinates, and gives the same points again on one machine. The perplexity
    is 30, but at most a third of n - 1.

    Args:
      coordinates: float [n, p], principal coordinates, the one of the largest variance first.

    Returns:
      float64 [n, 2]; the points of `pca` if n < 4 or all points are equal.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    coordinates = np.asarray(coordinates, np.float64)
    start = pca(coordinates)
    count = len(coordinates)
    if count < 4 or not start.std():
        return start
    # TSNE's own init="pca" needs two coordinates at least.
    wide = coordinates if coordinates.shape[1] > 1 else start
    perplexity = min(30.0, (count - 1) / 3)
    embedding = TSNE(init="pca", perplexity=perplexity, random_state=0, n_jobs=1)
    # Its threads wait for each other 1,000 times. Beside another program on the same cores, two
    # took 27 s for 797 points that one places in 4 s.
    with threadpool_limits(1):
        return embedding.fit_transform(wide).astype(np.float64)


def save_features(workdir: Path, projection: Projection) -> None:
    """Writes `features.npz` into a run's folder, atomically."""
    arrays.save(workdir / FEATURES, vars(projection))


def load_features(workdir: Path) -> Projection | None:
    """Returns what a run's `features.npz` holds, or None if there is no such file.

    Raises:
      UserError: the file is damaged.
    """
    return arrays.load(workdir / FEATURES, Projection)
