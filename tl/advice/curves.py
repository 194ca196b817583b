"""Accuracy over the number of training rows, and the accuracy to expect with more of them.

The error falls with the number n of rows about as a power, error = a n^-b (Hestness et al. 2017,
arXiv:1712.00409); b is fitted by least squares on logarithms. A probe's curve flattens: more rows
do not help with what its features do not tell. The power promises too much there. So beyond the
rows measured, half of b gives the accuracy to expect, and the interval reaches from no gain to the
gain by all of b.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The accuracy to expect of a classifier on new images.

    Attributes:
      top1: expected fraction of right predictions.
      low, high: an interval of about 95 %, see `estimate`.
      exponent: b of error = a n^-b over the sizes measured, in [0, 1].
      num_train: number of training rows that the estimate is for.
    """

    top1: float
    low: float
    high: float
    exponent: float
    num_train: int


def exponent(sizes: Int[np.ndarray, " s"], errors: Float[np.ndarray, " s"]) -> float:
    """Returns b of error = a n^-b by least squares on logarithms, clipped to [0, 1].

    Args:
      sizes: int [S], > 0; a single size gives 0.
      errors: float [S], > 0.
    """
    x = np.log(sizes)
    x -= x.mean()
    if not np.any(x):
        return 0.0
    return float(np.clip(-np.sum(x * np.log(errors)) / np.sum(x**2), 0.0, 1.0))


def estimate(
    correct: Mapping[int, Float[np.ndarray, "_ n"]], num_train: int, unseen: Float[np.ndarray, " n"]
) -> Estimate:
    """Returns the accuracy to expect with num_train rows, from what was measured with fewer.

    It starts from `unseen`, for the rows that chose the probe flatter it. The interval joins two
    errors as if they were independent: the exact binomial interval (Clopper and Pearson) of the N
    held-out rows, and twice the spread between the subsets of the second largest size.

    Args:
      correct: number of training rows to float [subsets, N], 1 where the chosen probe is right on a
        held-out row; the exponent is fitted to it.
      num_train: number of rows to train on.
      unseen: float [N], 1 where a probe fitted to the largest number of rows, and chosen by other
        held-out rows, is right.
    """
    from scipy import stats  # most of a second to import

    sizes = sorted(correct)
    count = len(unseen)
    errors = np.array([1 - correct[size].mean() for size in sizes])
    # Half an example is added, for no sample shows that there are no errors.
    b = exponent(np.array(sizes), (errors * count + 0.5) / (count + 1))
    gain = max(1.0, num_train / sizes[-1]) ** -b
    top1 = float(unseen.mean())
    exact = stats.binomtest(round(count * top1), count).proportion_ci(0.95, method="exact")
    spread = max((2 * _spread(correct[size]) for size in sizes[-2:-1]), default=0.0)
    low = top1 - np.hypot(top1 - exact.low, spread)
    high = top1 + np.hypot(exact.high - top1, spread)
    return Estimate(
        top1=1 - (1 - top1) * gain**0.5,
        low=float(max(0.0, low)),
        high=float(min(1.0, 1 - (1 - high) * gain)),
        exponent=b,
        num_train=num_train,
    )


def _spread(correct: Float[np.ndarray, "subsets n"]) -> float:
    """Returns the standard deviation of the accuracy over subsets; 0 of a single one."""
    return float(correct.mean(axis=1).std(ddof=1)) if len(correct) > 1 else 0.0
