"""Which classes are taken for which."""

from typing import Any

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

FEW = 12  # classes: so many a person finds without their being sorted


def confusion(labels, predicted, num_classes: int) -> np.ndarray:
    """Counts predictions, a true class a row, a predicted class a column.

    Args:
      labels: int [N], 0..C-1.
      predicted: int [N], 0..C-1.
      num_classes: C.

    Returns:
      int64 [C, C].
    """
    pairs = np.asarray(labels, np.int64) * num_classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def normalised(matrix) -> np.ndarray:
    """Returns the shares of each true class, float [C, C]; an absent class's row is 0.

    Args:
      matrix: int [C, C] of `confusion`.
    """
    matrix = np.asarray(matrix, np.float64)
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)


def order(matrix) -> np.ndarray:
    """Puts classes that are taken for each other side by side.

    The order of the leaves of an average-linkage tree, in which two classes are the nearer the
    more of the one are taken for the other, and neighbours are as near as the tree allows
    (Bar-Joseph, Gifford, Jaakkola, "Fast optimal leaf ordering", 2001).

    Args:
      matrix: int [C, C] of `confusion`.

    Returns:
      int64 [C], a permutation; the classes as they are where there are at most `FEW`.
    """
    shares = normalised(matrix)
    if len(shares) <= FEW:
        return np.arange(len(shares))
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance), method="average", optimal_ordering=True)
    return leaves_list(tree).astype(np.int64)


def per_class(matrix) -> list[dict[str, Any]]:
    """Returns how each class fares; what is undefined is None.

    Args:
      matrix: int [C, C] of `confusion`.

    Returns:
      A dict a class: `class` (its number), `count` of its examples, `recall`, `precision`, `f1`
      (fractions; None without examples, without predictions, without either), `most_confused`,
      the other class that most of its examples are taken for, or None, and
      `most_confused_count` of them.
    """
    matrix = np.asarray(matrix, np.int64)
    right, counts, predicted = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    wrong = matrix - np.diag(right)
    rows = []
    for c in range(len(matrix)):
        other = int(wrong[c].argmax())
        rows.append(
            {
                "class": c,
                "count": int(counts[c]),
                "recall": _ratio(right[c], counts[c]),
                "precision": _ratio(right[c], predicted[c]),
                "f1": _ratio(2 * right[c], counts[c] + predicted[c]),
                "most_confused": other if wrong[c, other] else None,
                "most_confused_count": int(wrong[c, other]),
            }
        )
    return rows


def _ratio(part, whole) -> float | None:
    return float(part / whole) if whole else None
