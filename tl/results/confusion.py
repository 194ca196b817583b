"""Confusion matrices, an order of their classes, and the scores of each class."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

FEW = 12  # classes that a person finds without sorting


def confusion(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], num_classes: int
) -> Int[np.ndarray, "c c"]:
    """Counts predictions, a true class a row, a predicted class a column.

    Args:
      labels: int [N], 0..C-1; N >= 1.
      predicted: int [N], 0..C-1.
      num_classes: C.

    Returns:
      int64 [C, C].
    """
    from sklearn import metrics  # a second to import, which runs need only for their page

    return metrics.confusion_matrix(labels, predicted, labels=np.arange(num_classes))


def normalised(matrix: Int[np.ndarray, "c c"]) -> Float[np.ndarray, "c c"]:
    """Returns the shares of each true class, float [C, C]; an absent class's row is 0.

    Args:
      matrix: int [C, C] of `confusion`.
    """
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)


def order(matrix: Int[np.ndarray, "c c"]) -> Int[np.ndarray, " c"]:
    """Returns an order of the classes in which those that are confused stand side by side.

    Classes are joined to a tree by average linkage; the distance of two classes is 1 minus the mean
    share of either that is taken for the other. The leaves of the tree are in the order that puts
    neighbours as near as the tree allows (Bar-Joseph, Gifford, Jaakkola, "Fast optimal leaf
    ordering", 2001).

    Args:
      matrix: int [C, C] of `confusion`.

    Returns:
      int64 [C], a permutation; 0..C-1 if C is at most FEW.
    """
    shares = normalised(matrix)
    if len(shares) <= FEW:
        return np.arange(len(shares))
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance), method="average", optimal_ordering=True)
    return leaves_list(tree).astype(np.int64)


def per_class(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], num_classes: int
) -> list[dict[str, Any]]:
    """Returns the scores of each class; a score that is undefined is None.

    Args:
      labels: int [N], 0..C-1; N >= 1.
      predicted: int [N], 0..C-1.
      num_classes: C.

    Returns:
      A dict for each class: `class` (its number), `count` of its examples, `recall`, `precision`,
      `f1` (fractions; None without examples, without predictions, without either),
      `most_confused`, the other class that most of its examples are taken for, or None, and
      `most_confused_count` of them.
    """
    from sklearn import metrics

    scores = metrics.precision_recall_fscore_support(
        labels, predicted, labels=np.arange(num_classes), zero_division=np.nan
    )
    wrong = confusion(labels, predicted, num_classes)
    np.fill_diagonal(wrong, 0)
    rows = []
    for c, (precision, recall, f1, count) in enumerate(zip(*scores, strict=True)):
        other = int(wrong[c].argmax())
        rows.append(
            {
                "class": c,
                "count": int(count),
                "recall": _defined(recall),
                "precision": _defined(precision),
                "f1": _defined(f1),
                "most_confused": other if wrong[c, other] else None,
                "most_confused_count": int(wrong[c, other]),
            }
        )
    return rows


def _defined(share: float) -> float | None:
    return None if np.isnan(share) else float(share)
