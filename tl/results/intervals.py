"""Intervals of an accuracy, of a mean over seeds and of the difference of two accuracies; tests.

The paired methods count an image that both classifiers get right, or both wrong, as no evidence
of a difference. That makes them far sharper than two intervals laid beside each other.

Images that belong together, such as all of one patient, are no independent evidence. Given as
groups, a name or number for each image, they are resampled as wholes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from tl.results.formats import plural

ENOUGH_SEEDS = 5  # fewer say too little about all seeds: Student's factor of 4 is 3.2, of 5 is 2.8

_DRAWN_AT_ONCE = 1 << 24  # numbers of a bootstrap that are in memory


@dataclass(frozen=True)
class Lead:
    """By how much one method is ahead of another on the same test images.

    Attributes:
      difference: of their accuracies, each the mean over its seeds; a fraction in [-1, 1].
      ci95: 95 % interval of the difference.
      seeds: number of seeds, of the method that has fewer.
    """

    difference: float
    ci95: tuple[float, float]
    seeds: int

    @property
    def over_seeds(self) -> bool:
        """Whether the interval is over seeds and images; else it is over images alone."""
        return self.seeds >= ENOUGH_SEEDS

    @property
    def over(self) -> str:
        """What the interval is over: 'seeds and images' or 'images alone'."""
        return "seeds and images" if self.over_seeds else "images alone"

    @property
    def note(self) -> str:
        """Says that the interval leaves out the luck of training, or '' if it does not."""
        if self.over_seeds:
            return ""
        return (
            f"{plural(self.seeds, 'seed')}: too few to say how much is the luck of training; "
            f"{ENOUGH_SEEDS} or more are needed"
        )


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
    rng = np.random.default_rng(seed)
    means = _resampled_means(np.asarray(values, np.float64)[np.newaxis], rng, resamples, groups)
    return _ends(means[:, 0], level)


def _resampled_means(
    values: Float[np.ndarray, "s n"],
    rng: np.random.Generator,
    resamples: int,
    groups: Shaped[np.ndarray, " n"] | None,
) -> Float[np.ndarray, "r s"]:
    """Returns the means of each row over resampled examples, which are the same for all rows."""
    if groups is None:
        sums = np.vstack([values, np.ones(values.shape[1])])
    else:
        _, group_of = np.unique(groups, return_inverse=True)
        sums = np.stack([np.bincount(group_of, row) for row in (*values, np.ones(len(groups)))])
    # A resample is a multinomial draw of the distinct groups: two of them for right and wrong.
    distinct, counts = np.unique(sums.T, axis=0, return_counts=True)
    count = counts.sum()
    at_once = max(1, _DRAWN_AT_ONCE // len(distinct))
    means = np.empty((resamples, len(values)))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = rng.multinomial(count, counts / count, size=size) @ distinct
        means[start : start + size] = drawn[:, :-1] / drawn[:, -1:]
    return means


def _ends(means: Float[np.ndarray, " r"], level: float) -> tuple[float, float]:
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


def crossed_interval(
    a: Bool[np.ndarray, "s n"] | Float[np.ndarray, "s n"],
    b: Bool[np.ndarray, "t n"] | Float[np.ndarray, "t n"],
    paired: bool,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> tuple[float, float, float]:
    """Returns the difference of two accuracies and its bootstrap interval over seeds and images.

    Every seed is tested on the same images, so seeds and images are crossed. Each sample draws
    seeds with replacement and, apart from that, images, the same ones for all seeds and for both
    methods: the pigeonhole bootstrap (Owen, "The pigeonhole bootstrap", 2007, arXiv:0712.1111). It
    draws both seeds of a pair together, as they share their training images (Bouthillier et al.,
    "Accounting for Variance in Machine Learning Benchmarks", 2021, arXiv:2103.03098).

    A bootstrap of few values is too narrow (Hesterberg, "What Teachers Should Know about the
    Bootstrap", 2015, arXiv:1411.5279). So each seed's distance from the mean over seeds is made
    larger, by sqrt(n / (n - 1)) t / z with Student's and the normal quantile, as his expanded
    percentile interval is. Where images decide little, the interval is then about that of
    `seeds_interval`; where seeds are equal, that of `paired_interval`.

    It is wider than needed if seeds err on different images by chance, as Owen's is. In a
    simulation of five seeds, 1,000 images and seeds that vary by 0, 2 and 5 points it covered 96,
    97 and 97 % where methods differed on a tenth of the images for good and on a fifth by chance,
    and 100, 98 and 96 % where they differed by chance alone. The interval over images alone covered
    94, 87 and 64 %, and 94, 65 and 30 %.

    Args:
      a: bool or float [S, N], for each seed and image whether the first method is right; S >= 2.
      b: [T, N], the same for the second method, the images in the same order; T >= 2.
      paired: whether row i of both has the same seed; else the seeds of each are drawn apart.
      seed: of the resampling.
      resamples: how many samples are drawn.
      level: probability that the interval covers.
      groups: [N], equal values for images of one group; see `bootstrap_interval`.

    Returns:
      (difference, low, high): mean(a) - mean(b), a fraction in [-1, 1], and its interval.

    Raises:
      ValueError: fewer than two seeds, or other numbers of them in a pair.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"expected two seeds or more of each, got {len(a)} and {len(b)}")
    if paired and len(a) != len(b):
        raise ValueError(f"expected as many seeds of both, got {len(a)} and {len(b)}")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    sides = [a - b] if paired else [a, -b]
    rng = np.random.default_rng(seed)
    means = _resampled_means(np.concatenate(sides), rng, resamples, groups)
    differences = np.zeros(resamples)
    for side in sides:
        of_side, means = means[:, : len(side)], means[:, len(side) :]
        enlarged = of_side + (_few_values_factor(len(side), level) - 1) * (
            side.mean(axis=1) - side.mean()
        )
        drawn = rng.multinomial(len(side), np.full(len(side), 1 / len(side)), size=resamples)
        differences += (drawn * enlarged).sum(axis=1) / len(side)
    return float(a.mean() - b.mean()), *_ends(differences, level)


def _few_values_factor(count: int, level: float) -> float:
    """Returns by what a bootstrap of the mean of `count` values is narrower than Student's."""
    from scipy import stats

    share = 0.5 + level / 2
    ratio = stats.t.ppf(share, count - 1) / stats.norm.ppf(share)
    return float(np.sqrt(count / (count - 1)) * ratio)


def lead(
    a: Bool[np.ndarray, "s n"] | Float[np.ndarray, "s n"],
    b: Bool[np.ndarray, "t n"] | Float[np.ndarray, "t n"],
    seeds_a: Int[np.ndarray, " s"],
    seeds_b: Int[np.ndarray, " t"],
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> Lead:
    """Returns by how much the first method is ahead, over seeds and images if seeds are enough.

    With `ENOUGH_SEEDS` or more of both it is `crossed_interval`, in pairs if both have the same
    seeds. With fewer it is `paired_interval` of the means over seeds, which is over images alone.

    Args:
      a: bool or float [S, N], for each seed and image whether the first method is right.
      b: [T, N], the same for the second method, the images in the same order.
      seeds_a: [S], the seed of each row of `a`, each once.
      seeds_b: [T], the same for `b`.
      groups: [N], equal values for images of one group; see `bootstrap_interval`.
    """
    few = min(len(a), len(b))
    if few < ENOUGH_SEEDS:
        difference, low, high = paired_interval(a.mean(axis=0), b.mean(axis=0), groups=groups)
    else:
        by_seed_a, by_seed_b = np.argsort(seeds_a), np.argsort(seeds_b)
        paired = np.array_equal(seeds_a[by_seed_a], seeds_b[by_seed_b])
        difference, low, high = crossed_interval(
            a[by_seed_a], b[by_seed_b], paired=paired, groups=groups
        )
    return Lead(difference, (low, high), few)


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
