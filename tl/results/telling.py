"""Which images a person should look at first. Every function returns rows, the first foremost.

Probabilities should be of examples that the classifier was not fitted on, and calibrated.
"""

import numpy as np


def confident_mistakes(probabilities, labels, k: int) -> np.ndarray:
    """Returns the wrong predictions with the highest probabilities.

    Args:
      probabilities: float [N, C].
      labels: int [N], 0..C-1.
      k: at most so many rows.

    Returns:
      int64 [<= k] rows; among equals the earlier comes first.
    """
    predicted, confidence = _predicted(probabilities)
    return _first(predicted != np.asarray(labels), -confidence, k)


def uncertain_right(probabilities, labels, k: int) -> np.ndarray:
    """Returns the right predictions with the smallest lead over the second class.

    Args:
      probabilities: float [N, C].
      labels: int [N], 0..C-1.
      k: at most so many rows.

    Returns:
      int64 [<= k] rows; among equals the earlier comes first.
    """
    predicted, confidence = _predicted(probabilities)
    others = np.array(probabilities, np.float64)
    others[np.arange(len(others)), predicted] = 0
    return _first(predicted == np.asarray(labels), confidence - others.max(axis=1), k)


def mislabelled(probabilities, labels, k: int) -> np.ndarray:
    """Returns the examples whose label is likely wrong, by confident learning.

    A class's threshold is the mean probability of it over the examples that bear its label. An
    example counts for the most probable of the classes whose thresholds it reaches. Where that is
    another class than its label, it lies off the diagonal of the confident joint. Of these, those
    whose label is not the predicted class are returned, by p(predicted) - p(label).

    Source: Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", JAIR 70, 2021, section 3.

    Args:
      probabilities: float [N, C], of classifiers that were not fitted on these examples.
      labels: int [N], 0..C-1; a class that no label names is never suggested.
      k: at most so many rows.

    Returns:
      int64 [<= k] rows; among equals the earlier comes first.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    predicted, confidence = _predicted(probabilities)
    own = probabilities[np.arange(len(labels)), labels]
    num_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=own, minlength=num_classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    # Means round: an example that is its class's mean must reach it.
    reached = probabilities >= thresholds * (1 - 1e-12)
    counted_for = np.where(reached, probabilities, -1.0).argmax(axis=1)
    off_diagonal = reached.any(axis=1) & (counted_for != labels)
    return _first(off_diagonal & (predicted != labels), own - confidence, k)


def _predicted(probabilities) -> tuple[np.ndarray, np.ndarray]:
    probabilities = np.asarray(probabilities)
    return probabilities.argmax(axis=1), probabilities.max(axis=1)


def _first(chosen: np.ndarray, key: np.ndarray, k: int) -> np.ndarray:
    """Returns the k chosen rows with the smallest keys, in order."""
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(key[rows], kind="stable")][:k]
