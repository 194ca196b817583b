"""The features that a run's head acts on, in few coordinates, for a picture."""

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
