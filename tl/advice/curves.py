"""Accuracy over the number of training rows, and what it would be with more of them.

Error falls with the number n of rows about as a power, error = a n^-b (Hestness et al. 2017,
arXiv:1712.00409); b is fitted by least squares on logarithms. A probe's curve flattens, because
what its features do not tell no number of rows will, and the power carried on promises too much.
Beyond the rows measured half of b is taken for what to expect; the interval reaches from no gain
to all of it.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What to expect of a classifier on images that it has not seen.

    Attributes:
      top1: expected fraction that is right.
      low, high: interval of about 95 %; see `estimate`.
      exponent: b of error = a n^-b over the sizes measured, in [0, 1].
      num_train: rows it is for.
    """

    top1: float
    low: float
    high: float
    exponent: float
    num_train: int


def exponent(sizes: Sequence[int], errors: Sequence[float]) -> float:
    """Returns b of error = a n^-b by least squares on logarithms, clipped to [0, 1].

    Args:
      sizes: [S], > 0; one size alone gives 0.
      errors: [S], > 0.
    """
    x = np.log(np.asarray(sizes, float))
    x -= x.mean()
    if not np.any(x):
        return 0.0
    return float(np.clip(-np.sum(x * np.log(errors)) / np.sum(x**2), 0.0, 1.0))


def estimate(correct: Mapping[int, np.ndarray], num_train: int, unseen: np.ndarray) -> Estimate:
    """Returns the accuracy to expect with num_train rows, by what was measured with fewer.

    It starts from `unseen`, not from what the chosen probe has right on the rows that chose it.
    The interval joins, as independent errors, the exact binomial one (Clopper and Pearson) of the
    N held-out rows and twice the spread between two subsets of the next smaller size.

    Args:
      correct: of the chosen probe, number of training rows to float [subsets, N], 1 where a
        held-out row came out right; the exponent is fitted to it.
      num_train: rows to train on.
      unseen: float [N], the same of the largest number, where other rows chose the probe.
    """
    sizes = sorted(correct)
    count = len(unseen)
    errors = np.array([1 - correct[size].mean() for size in sizes])
    # Half an example: no sample shows that there are no errors.
    b = exponent(sizes, (errors * count + 0.5) / (count + 1))
    gain = max(1.0, num_train / sizes[-1]) ** -b
    error = 1 - unseen.mean()
    hits = count * error
    exact = stats.beta.ppf((0.025, 0.975), (hits, hits + 1), (count - hits + 1, count - hits))
    lowest, highest = np.where(np.isnan(exact), (0.0, 1.0), exact)  # of none or all wrong
    spread = max((2 * _spread(correct[size]) for size in sizes[-2:-1]), default=0.0)
    worst = error + np.hypot(highest - error, spread)
    best = error - np.hypot(error - lowest, spread)
    return Estimate(
        top1=float(1 - error * gain**0.5),
        low=float(max(0.0, 1 - worst)),
        high=float(min(1.0, 1 - best * gain)),
        exponent=b,
        num_train=num_train,
    )


def _spread(correct: np.ndarray) -> float:
    """Returns the standard deviation of accuracy [subsets, N] over subsets."""
    return float(correct.mean(axis=1).std(ddof=1)) if len(correct) > 1 else 0.0
