"""Test features in few coordinates: saved by each run, drawn by its page."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tl.results import arrays

FEATURES = "features.npz"
MOST_ROWS = 1000  # evenly spaced over the test rows
MOST_COORDINATES = 50


@dataclass(frozen=True)
class Projection:
    """Some test rows in the principal coordinates of the features that the head acts on.

    Attributes:
      rows: int64 [n], places among the test rows.
      coordinates: float32 [n, p], in order of falling variance; p is at least 1.
      explained: float32 [p], each one's share of the variance.
      endpoint: whose features.
    """

    rows: np.ndarray
    coordinates: np.ndarray
    explained: np.ndarray
    endpoint: str


def spaced_rows(count: int) -> np.ndarray:
    """Returns at most MOST_ROWS of `count` rows, evenly spaced, int64."""
    return np.linspace(0, count - 1, min(count, MOST_ROWS)).round().astype(np.int64)


def project(features: np.ndarray, rows: np.ndarray, endpoint: str, standardise: bool) -> Projection:
    """Returns the principal coordinates of features.

    Args:
      features: float [n, D], n >= 1.
      rows: int64 [n], their places among the test rows.
      endpoint: whose features they are.
      standardise: each to unit variance first, as a head does that standardises.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler(with_std=standardise).fit_transform(np.float32(features))
    if scaled.any():
        pca = PCA(min(MOST_COORDINATES, len(features) - 1, features.shape[1]), random_state=0)
        coordinates, explained = pca.fit_transform(scaled), pca.explained_variance_ratio_
    else:  # there is one row, or all are the same
        coordinates, explained = np.zeros((len(rows), 1)), np.zeros(1)
    return Projection(rows, np.float32(coordinates), np.float32(explained), endpoint)


def save_features(workdir: Path, projection: Projection) -> None:
    """Writes a run's features, atomically."""
    arrays.save(workdir / FEATURES, vars(projection))


def load_features(workdir: Path) -> Projection | None:
    """Returns the features of a run, or None where it has none.

    Raises:
      UserError: they are damaged.
    """
    loaded = arrays.load(workdir / FEATURES, Projection)
    return loaded and dataclasses.replace(loaded, endpoint=str(loaded.endpoint))


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
    from sklearn.manifold import TSNE

    embedding = TSNE(init="pca", perplexity=perplexity, random_state=seed, n_jobs=1)
    return embedding.fit_transform(wide).astype(np.float64)
