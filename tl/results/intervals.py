"""Intervals and tests: of a mean over seeds, and of two classifiers on the same images.

Both paired methods count an image that two classifiers get right, or wrong, as no evidence of a
difference. That makes them far sharper than two intervals laid beside each other.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, t

from tl import metrics


@dataclass(frozen=True)
class McNemar:
    """What an exact McNemar test found.

    Attributes:
      only_a: images that only the first classifier gets right.
      only_b: images that only the second gets right.
      p_value: two-sided, in (0, 1]; of a difference as large by chance.
    """

    only_a: int
    only_b: int
    p_value: float


def seeds_interval(values, level: float = 0.95) -> tuple[float, float, float]:
    """Returns the mean over seeds and Student's t interval of it.

    With two seeds the interval is 12.7 standard errors to either side, with five 2.8: what is wide
    here is not known better.

    >>> [round(v, 3) for v in seeds_interval([0.9, 0.92])]
    [0.91, 0.783, 1.037]

    Args:
      values: float [n], one of each seed; n >= 2.
      level: probability that the interval covers.

    Returns:
      (mean, low, high); the interval is not cut off where a value could not lie.

    Raises:
      ValueError: fewer than two values.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"expected a vector of two values or more, got shape {values.shape}")
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    reach = t.ppf(0.5 + level / 2, len(values) - 1) * error
    return float(mean), float(mean - reach), float(mean + reach)


def paired_interval(
    a, b, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """Difference of two accuracies on the same images, with a paired bootstrap interval.

    Images are resampled, each with both of its values (Efron 1979, percentile interval).

    >>> paired_interval([1, 1, 0], [1, 1, 0])
    (0.0, 0.0, 0.0)

    Args:
      a: bool or float [N], whether the first classifier is right, image by image, or the share
        of its seeds that are; N >= 1.
      b: the same of the second, in the same order.
      seed: of the resampling.
      resamples: how many samples of N images, with replacement, are drawn.
      level: probability that the interval covers.

    Returns:
      (difference, low, high): mean(a) - mean(b), a fraction in [-1, 1], and its interval.

    Raises:
      ValueError: a and b are not two vectors of one length.
    """
    a, b = _two_vectors(a, b)
    difference = a - b
    low, high = metrics.bootstrap_interval(difference, seed, resamples, level)
    return float(difference.mean()), low, high


def mcnemar_exact(a, b) -> McNemar:
    """Tests whether two classifiers are right equally often (McNemar 1947, exact binomial).

    Of the images that exactly one of them gets right, each would get half.

    Args:
      a: bool [N], or 0 and 1, whether the first classifier is right, image by image.
      b: the same of the second, in the same order.

    Returns:
      The counts and p; p is 1 where the two are right on the same images.

    Raises:
      ValueError: a and b are not two vectors of one length, or hold more than 0 and 1.
    """
    a, b = _two_vectors(a, b)
    if not np.isin(np.concatenate([a, b]), (0, 1)).all():
        raise ValueError(
            "expected right (1) or wrong (0) for each image; a mean over seeds has no exact "
            "test: give one seed, or use paired_interval"
        )
    only_a, only_b = int(np.sum(a > b)), int(np.sum(b > a))
    if not only_a + only_b:
        return McNemar(0, 0, 1.0)
    return McNemar(only_a, only_b, float(binomtest(only_a, only_a + only_b).pvalue))


def _two_vectors(a, b) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(
            f"expected two vectors with a value for each of the same images; got shapes {a.shape} "
            f"and {b.shape}"
        )
    return a, b
