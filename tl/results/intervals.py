"""Intervals of an accuracy, of a mean over seeds and of the difference of two accuracies; tests.

The two paired methods count an image that both classifiers get right, or both wrong, as no evidence
of a difference. That makes them far sharper than two intervals laid beside each other.

Images that belong together, such as all of one patient, are no independent evidence. Given as
groups, a name or number for each image, they are resampled as wholes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

_DRAWN_AT_ONCE = 1 << 24  # numbers of a bootstrap that are in memory


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
    correct: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"],
    level: float = 0.95,
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> tuple[float, float]:
    """Returns the interval of an accuracy over the test images, or over groups of them.

    For one classifier, whose values are 0 and 1, this is Wilson's interval. It is not empty where
    every image comes out right, as a bootstrap would be:

    >>> low, high = accuracy_interval(np.array([True] * 10))
    >>> round(low, 3), high
    (0.722, 1.0)

    For a mean over seeds the values are fractions, which are not binomial; the interval is then
    `bootstrap_interval`. If all images have the same fraction, a bootstrap would be empty too, and
    Wilson's interval of that fraction, wider than needed, is returned.

    With groups it is `bootstrap_interval` over whole groups. If that is empty, since all groups
    have the same accuracy, it is Wilson's interval for as many images as there are groups.

    Args:
      correct: bool or float [N] in [0, 1], for each image whether the classifier is right, or the
        share of seeds whose classifier is; N >= 1.
      level: probability that the interval covers.
      groups: [N], equal values for images of one group.

    Returns:
      (low, high), fractions.
    """
    if groups is not None:
        low, high = bootstrap_interval(correct, level=level, groups=groups)
        if low < high:
            return low, high
        count = len(np.unique(groups))
        return wilson_interval(round(float(np.mean(correct)) * count), count, level)
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
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of the mean over examples (Efron 1979).

    With groups it is the cluster bootstrap: a sample has as many groups as there are, each with all
    its examples, and its mean is over the examples (Davison and Hinkley, "Bootstrap Methods and
    their Application", 1997, section 3.8).

    Args:
      values: bool or float [N], one number for each example; N >= 1.
      seed: of the resampling.
      resamples: how many samples of N examples are drawn, with replacement.
      level: probability that the interval covers.
      groups: [N], equal values for examples of one group.

    Returns:
      (low, high), the quantiles (1 - level) / 2 and (1 + level) / 2 of the resampled means.
    """
    values = np.asarray(values, np.float64)
    if groups is None:
        sums, sizes = values, np.ones(len(values))
    else:
        _, group_of = np.unique(groups, return_inverse=True)
        sums, sizes = np.bincount(group_of, values), np.bincount(group_of).astype(np.float64)
    # A resample is a multinomial draw of the distinct groups: two of them for right and wrong.
    distinct, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    count, rng = counts.sum(), np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // len(distinct))
    levels, sizes = np.ascontiguousarray(distinct.T)
    means = np.empty(resamples)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        draws = rng.multinomial(count, counts / count, size=size)
        means[start : start + size] = draws @ levels / (draws @ sizes)
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
    groups: Shaped[np.ndarray, " n"] | None = None,
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
      groups: [N], equal values for images of one group; see `bootstrap_interval`.

    Returns:
      (difference, low, high): mean(a) - mean(b), a fraction in [-1, 1], and its interval.
    """
    difference = np.subtract(a, b, dtype=np.float64)
    low, high = bootstrap_interval(difference, seed, resamples, level, groups)
    return float(difference.mean()), low, high


def mcnemar_exact(a: Bool[np.ndarray, " n"], b: Bool[np.ndarray, " n"]) -> McNemar:
    """Tests whether two classifiers are right equally often (McNemar 1947, exact binomial).

    If they are, either of them has an even chance to be the right one on an image that exactly one
    of them gets right. Images count as independent, which those of a group are not.

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
