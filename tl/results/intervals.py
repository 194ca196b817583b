"""Intervals of an accuracy, of a mean over seeds and of the difference of two accuracies; tests.

The two paired methods count an image that both classifiers get right, or both wrong, as no evidence
of a difference. That makes them far sharper than two intervals laid beside each other.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class McNemar:
    """Result of an exact McNemar test.

    Attributes:
      only_a: number of images that only the first classifier gets right.
      only_b: number of images that only the second classifier gets right.
      p_value: two-sided, in (0, 1]: the probability of a difference as large by chance.
    """

    only_a: int
    only_b: int
    p_value: float


def accuracy_interval(
    correct: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"], level: float = 0.95
) -> tuple[float, float]:
    """Returns the interval of an accuracy over the test images.

    For one classifier, whose values are 0 and 1, this is Wilson's interval. It is not empty where
    every image comes out right, as a bootstrap would be:

    >>> low, high = accuracy_interval(np.array([True] * 10))
    >>> round(low, 3), high
    (0.722, 1.0)

    For a mean over seeds the values are fractions, which are not binomial; the interval is then
    `bootstrap_interval`. If all images have the same fraction, a bootstrap would be empty too, and
    Wilson's interval of that fraction, wider than needed, is returned.

    Args:
      correct: bool or float [N] in [0, 1], for each image whether the classifier is right, or the
        share of seeds whose classifier is; N >= 1.
      level: probability that the interval covers.

    Returns:
      (low, high), fractions.
    """
    values = np.unique(correct)
    if len(values) > 1 and not np.isin(values, (0, 1)).all():
        return bootstrap_interval(correct, level=level)
    return wilson_interval(round(float(np.sum(correct))), len(correct), level)


def wilson_interval(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Returns Wilson's score interval of a share (Wilson 1927).

    Its coverage is near `level` for small counts and for shares near 0 and 1 (Brown, Cai, DasGupta,
    "Interval Estimation for a Binomial Proportion", 2001).

    Args:
      hits: 0..count.
      count: >= 1.
      level: probability that the interval covers.

    Returns:
      (low, high), fractions.
    """
    from scipy import stats  # most of a second to import

    found = stats.binomtest(hits, count).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def bootstrap_interval(
    values: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of the mean over examples (Efron 1979).

    Args:
      values: bool or float [N], one number for each example; N >= 1.
      seed: of the resampling.
      resamples: how many samples of N examples are drawn, with replacement.
      level: probability that the interval covers.

    Returns:
      (low, high), the quantiles (1 - level) / 2 and (1 + level) / 2 of the resampled means.
    """
    # A resample is a multinomial draw of the distinct values: two of them for right and wrong.
    levels, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    count = counts.sum()
    draws = np.random.default_rng(seed).multinomial(count, counts / count, size=resamples)
    means = draws @ levels / count
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def seeds_interval(
    values: Float[np.ndarray, " n"], level: float = 0.95
) -> tuple[float, float, float]:
    """Returns the mean over seeds and Student's t interval of it.

    Two seeds give an interval of 12.7 standard errors to either side, five seeds one of 2.8: few
    seeds say little about the mean over all seeds.

    >>> [round(v, 3) for v in seeds_interval(np.array([0.9, 0.92]))]
    [0.91, 0.783, 1.037]

    Args:
      values: float [n], one for each seed; n >= 2.
      level: probability that the interval covers.

    Returns:
      (mean, low, high); low and high may lie outside the range that the values can have.

    Raises:
      ValueError: fewer than two values.
    """
    from scipy import stats

    if len(values) < 2:
        raise ValueError(f"expected two values or more, got {len(values)}")
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    reach = stats.t.ppf(0.5 + level / 2, len(values) - 1) * error
    return float(mean), float(mean - reach), float(mean + reach)


def paired_interval(
    a: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"],
    b: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Returns the difference of two accuracies on the same images, and a paired bootstrap interval.

    Images are resampled, each with its values for both classifiers (Efron 1979, percentile
    interval).

    >>> paired_interval(np.array([True, True, False]), np.array([True, True, False]))
    (0.0, 0.0, 0.0)

    Args:
      a: bool or float [N], for each image whether the first classifier is right, or the share of
        its seeds that are; N >= 1.
      b: the same for the second classifier, the images in the same order.
      seed: of the resampling.
      resamples: how many samples of N images are drawn, with replacement.
      level: probability that the interval covers.

    Returns:
      (difference, low, high): mean(a) - mean(b), a fraction in [-1, 1], and its interval.
    """
    difference = np.subtract(a, b, dtype=np.float64)
    low, high = bootstrap_interval(difference, seed, resamples, level)
    return float(difference.mean()), low, high


def mcnemar_exact(a: Bool[np.ndarray, " n"], b: Bool[np.ndarray, " n"]) -> McNemar:
    """Tests whether two classifiers are right equally often (McNemar 1947, exact binomial).

    If they are, either of them has an even chance to be the right one on an image that exactly one
    of them gets right.

    Args:
      a: bool [N], for each image whether the first classifier is right.
      b: the same for the second classifier, the images in the same order.

    Returns:
      The counts and p; p is 1 if both are right on the same images.
    """
    from scipy import stats

    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    if not only_a + only_b:
        return McNemar(0, 0, 1.0)
    return McNemar(only_a, only_b, float(stats.binomtest(only_a, only_a + only_b).pvalue))
