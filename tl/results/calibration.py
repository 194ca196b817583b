"""Calibration: how far confidence is from accuracy, and temperature scaling to bring it nearer.

Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, log_expit, log_softmax, softmax

from tl.weights.spec import Link

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

    edges: Float[np.ndarray, " edges"]
    confidence: Float[np.ndarray, " b"]
    accuracy: Float[np.ndarray, " b"]
    counts: Int[np.ndarray, " b"]
    ece: float


@dataclass(frozen=True)
class Fit:
    """A temperature fitted on val.

    Attributes:
      best: the temperature with the lowest loss on val.
      helps: whether it is to be applied. It is not if it is a bound of the search, or if
        temperatures fitted on each half of val do not lower the loss of the other half. Test has no
        say.
    """

    best: float
    helps: bool = True

    @property
    def temperature(self) -> float:
        """What to divide logits by: `best`, or 1 where that does not help."""
        return self.best if self.helps else 1.0


@dataclass(frozen=True)
class Scaling:
    """What a temperature does to other examples than it was fitted on.

    Attributes:
      fit: the temperature.
      before, after: reliability without it, and with it whether it helps or not.
    """

    fit: Fit
    before: Reliability
    after: Reliability


def probabilities(
    logits: Float[np.ndarray, "n c"], temperature: float = 1.0, link: Link = "softmax"
) -> Float[np.ndarray, "n c"]:
    """Returns softmax(logits / temperature) or sigmoid(logits / temperature), float64 [N, C].

    Args:
      logits: float [N, C], finite, of any size.
      temperature: above 0. A value above 1 softens, one below 1 sharpens; the predicted class
        stays the same.
      link: `softmax` for rows that add up to 1, `sigmoid` for each class by itself.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    return expit(scaled) if link == "sigmoid" else softmax(scaled, axis=1)


def temperature(
    logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], link: Link = "softmax"
) -> float:
    """Returns the temperature T with the lowest mean loss of the probabilities at logits / T.

    The loss of an example is -log p(label) for `softmax`. For `sigmoid` it is the binary
    cross-entropy against the one-hot label, summed over the classes.

    The search is bounded by `TEMPERATURES`. T is the lower bound where sharper is always better:
    every label has the highest logit, and other examples will then find the classifier
    overconfident. T is the upper bound where the logits are no better than chance. T is 1 where no
    other value is better.

    Args:
      logits: float [N, C], finite, of examples that the classifier was not fitted on; N >= 1.
      labels: int [N], 0..C-1.
      link: how logits become probabilities.
    """
    from scipy import optimize  # half a second to import

    # The loss is convex in 1 / T, so it has one valley in log T. The search comes near a bound but
    # never reaches it.
    found = optimize.minimize_scalar(
        lambda log_temperature: _loss(logits, labels, math.exp(log_temperature), link),
        bounds=tuple(map(math.log, TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return min(
        (1.0, *TEMPERATURES, math.exp(found.x)), key=lambda t: _loss(logits, labels, t, link)
    )


def _loss(logits: np.ndarray, labels: np.ndarray, temperature: float, link: Link) -> float:
    scaled = np.asarray(logits, np.float64) / temperature
    own = np.asarray(labels)[:, None] == np.arange(scaled.shape[1])
    if link == "sigmoid":
        return -float(np.mean(np.sum(log_expit(np.where(own, scaled, -scaled)), axis=1)))
    return -float(np.mean(log_softmax(scaled, axis=1)[own]))


def fit(
    logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], link: Link = "softmax"
) -> Fit:
    """Returns the temperature of val, and whether it helps; see `temperature` for the arguments."""
    best = temperature(logits, labels, link)
    if best in TEMPERATURES or len(labels) < 2:
        return Fit(best, helps=False)
    # Alternating within each class, so that both halves have all classes that can be halved.
    order = np.argsort(labels, kind="stable")
    halves = [(np.asarray(logits)[rows], labels[rows]) for rows in (order[::2], order[1::2])]
    with_it = without = 0.0
    for one, other in (halves, halves[::-1]):
        with_it += len(other[1]) * _loss(*other, temperature(*one, link), link)
        without += len(other[1]) * _loss(*other, 1.0, link)
    return Fit(best, helps=with_it < without)


def reliability(
    probabilities: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], bins: int = 15
) -> Reliability:
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


def scaling(
    logits: Float[np.ndarray, "n c"],
    labels: Int[np.ndarray, " n"],
    fit: Fit,
    link: Link = "softmax",
) -> Scaling:
    """Returns what a temperature does to the calibration of some examples.

    Args:
      logits: float [N, C], of examples that the temperature was not fitted on.
      labels: int [N], 0..C-1.
      fit: the temperature.
      link: how logits become probabilities.
    """
    before, after = (reliability(probabilities(logits, t, link), labels) for t in (1.0, fit.best))
    return Scaling(fit, before, after)
