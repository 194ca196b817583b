"""Whether a classifier's confidence is its accuracy, and the temperature that brings it nearer.

Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

TEMPERATURES = (0.05, 20.0)  # the lowest and the highest that `temperature` gives


@dataclass(frozen=True)
class Reliability:
    """Accuracy by confidence.

    Attributes:
      edges: float [B + 1] of the bins, 0 to 1.
      confidence: float [B], mean confidence of a bin's examples; NaN in an empty bin.
      accuracy: float [B], share of a bin's examples that are right; NaN in an empty bin.
      counts: int [B], examples in a bin.
      ece: expected calibration error: the mean over examples of their bin's |accuracy -
        confidence|, in [0, 1].
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray
    ece: float


def probabilities(logits, temperature: float = 1.0) -> np.ndarray:
    """Returns softmax(logits / temperature), float64 [N, C].

    Args:
      logits: float [N, C], finite; of any size, for the largest of a row is taken off first.
      temperature: above 0; above 1 softens, below 1 sharpens, and none changes who is first.
    """
    return softmax(np.asarray(logits, np.float64) / temperature, axis=1)


def temperature(logits, labels) -> float:
    """Returns the temperature whose softmax(logits / T) has the lowest mean cross-entropy.

    The search is bounded by `TEMPERATURES`. A bound is the answer where few examples say too
    little: where every label has the highest logit, ever sharper is ever better, T is the lower
    bound, and other examples will find the classifier overconfident; where the logits are no
    better than chance, T is the upper one. T is 1 where no other is better.

    Args:
      logits: float [N, C], finite, of examples that the classifier was not fitted on; N >= 1.
      labels: int [N], 0..C-1.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)

    def loss(temperature: float) -> float:
        scores = log_softmax(logits / temperature, axis=1)
        return -float(np.mean(scores[np.arange(len(labels)), labels]))

    # Convex in 1 / T, so it has one valley in log T; the search comes near a bound, never to it.
    found = minimize_scalar(
        lambda log_temperature: loss(math.exp(log_temperature)),
        bounds=tuple(map(math.log, TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return min((1.0, *TEMPERATURES, math.exp(found.x)), key=loss)


def reliability(probabilities, labels, bins: int = 15) -> Reliability:
    """Groups examples into bins of equal width by the probability of the predicted class.

    Args:
      probabilities: float [N, C], N >= 1.
      labels: int [N], 0..C-1.
      bins: B >= 1; a bin holds its upper edge and not its lower one, as (0.2, 0.4].
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    top = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    member = np.clip(np.searchsorted(edges, top, side="left") - 1, 0, bins - 1)
    counts = np.bincount(member, minlength=bins)
    sums = (np.bincount(member, weights=values, minlength=bins) for values in (top, right))
    filled = np.where(counts > 0, counts, np.nan)
    confidence, accuracy = (total / filled for total in sums)
    ece = np.nansum(counts * np.abs(accuracy - confidence)) / len(labels)
    return Reliability(edges, confidence, accuracy, counts, float(ece))
