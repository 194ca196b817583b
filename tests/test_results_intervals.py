import itertools

import jaxtyping
import numpy as np
import pytest

from tl.results import intervals
from tl.results.intervals import (
    accuracy_interval,
    bootstrap_interval,
    seeds_interval,
    wilson_interval,
)


def test_wilson_by_hand():
    # Wilson 1927: (k + z^2 / 2 +- z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2), z^2 = 3.84146.
    assert wilson_interval(9, 10) == pytest.approx((0.59585, 0.98212), abs=1e-5)
    assert wilson_interval(0, 1) == pytest.approx((0, 3.84146 / 4.84146), abs=1e-5)
    assert wilson_interval(10, 10) == pytest.approx((10 / 13.84146, 1), abs=1e-5)
    # z = 1.64485 at 90 %: half of 100 is 1 / 2 +- z / 2 / sqrt(100 + z^2).
    assert wilson_interval(50, 100, level=0.9) == pytest.approx((0.41885, 0.58115), abs=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.98])
def test_wilson_covers_about_as_often_as_it_says(share):
    count = 400
    hits = np.random.default_rng(0).binomial(count, share, size=2000)
    numbers, at = np.unique(hits, return_inverse=True)
    ends = np.array([wilson_interval(int(k), count) for k in numbers])[at]
    covered = np.mean((ends[:, 0] <= share) & (share <= ends[:, 1]))
    assert covered == pytest.approx(0.95, abs=0.02)


def test_one_classifier_has_the_interval_of_wilson():
    right = np.array([True] * 9 + [False])
    assert accuracy_interval(right) == wilson_interval(9, 10)
    assert accuracy_interval(right.astype(float)) == wilson_interval(9, 10)
    assert accuracy_interval(right, level=0.9) == wilson_interval(9, 10, 0.9)


def test_all_or_none_right_is_no_certainty():
    assert accuracy_interval(np.ones(10)) == pytest.approx((10 / 13.84146, 1), abs=1e-5)
    assert accuracy_interval(np.zeros(10)) == pytest.approx((0, 3.84146 / 13.84146), abs=1e-5)


def test_a_mean_over_seeds_has_a_bootstrap():
    shares = np.array([1.0, 0.5, 0.0, 1.0])
    assert accuracy_interval(shares) == bootstrap_interval(shares)
    assert accuracy_interval(shares, level=0.9) == bootstrap_interval(shares, level=0.9)


def test_seeds_that_share_each_image_alike_have_no_empty_interval():
    assert accuracy_interval(np.full(10, 0.5)) == wilson_interval(5, 10)


def test_bootstrap_interval_is_the_binomial_one():
    values = np.arange(1000) < 900
    low, high = bootstrap_interval(values)
    half = 1.96 * np.sqrt(0.9 * 0.1 / 1000)
    assert low == pytest.approx(0.9 - half, abs=0.003)
    assert high == pytest.approx(0.9 + half, abs=0.003)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(np.ones(3)) == (1.0, 1.0)


def test_two_seeds():
    # Standard error 0.01; Student's quantile with one degree of freedom is 12.706.
    assert seeds_interval(np.array([0.90, 0.92])) == pytest.approx(
        (0.91, 0.91 - 0.12706, 0.91 + 0.12706), 1e-4
    )


def test_three_seeds_at_another_level():
    # Mean 2, standard error 1 / sqrt(3); with two degrees of freedom 2.920 at 90 %.
    mean, low, high = seeds_interval(np.array([1.0, 2.0, 3.0]), level=0.9)
    assert (mean, high - 2, 2 - low) == pytest.approx((2, 1.6858, 1.6858), rel=1e-4)


def test_equal_seeds():
    assert seeds_interval(np.array([0.5, 0.5])) == (0.5, 0.5, 0.5)


def test_it_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [seeds_interval(rng.normal(size=3)) for _ in range(2000)]
    assert np.mean([low <= 0 <= high for _, low, high in intervals]) == pytest.approx(
        0.95, abs=0.01
    )


@pytest.mark.parametrize("values", [[], [0.5]])
def test_too_few_seeds(values):
    with pytest.raises(ValueError, match=f"two values or more, got {len(values)}"):
        seeds_interval(np.array(values, float))


def test_one_against_nine():
    # Of ten images that exactly one gets right: 2 * (1 + 10) / 2 ** 10.
    a = np.array([True] + [False] * 9 + [True] * 5 + [False] * 5)
    b = np.array([False] + [True] * 9 + [True] * 5 + [False] * 5)
    found = intervals.mcnemar_exact(a, b)
    assert (found.only_a, found.only_b) == (1, 9)
    assert found.p_value == pytest.approx(22 / 1024)
    assert intervals.mcnemar_exact(b, a) == intervals.McNemar(9, 1, found.p_value)


@pytest.mark.parametrize("right", [[1, 0, 1], [1, 1, 1], [0]])
def test_the_same_images_right_is_no_difference(right):
    a = np.array(right, bool)
    assert intervals.mcnemar_exact(a, a) == intervals.McNemar(0, 0, 1.0)
    assert intervals.paired_interval(a, a) == (0.0, 0.0, 0.0)


def test_equal_numbers_right_on_other_images():
    a = np.array([True, True, False, False])
    assert intervals.mcnemar_exact(a, ~a) == intervals.McNemar(2, 2, 1.0)


def test_the_exact_test_wants_one_seed():
    with pytest.raises(jaxtyping.TypeCheckError):  # a mean over seeds has no exact test
        intervals.mcnemar_exact(np.array([0.5, 1.0]), np.array([1.0, 1.0]))


def test_the_interval_is_the_analytic_one_and_sharper_than_two():
    rng = np.random.default_rng(0)
    a = rng.random(2000) < 0.8
    b = np.where(rng.random(2000) < 0.1, ~a, a)
    difference, low, high = intervals.paired_interval(a, b)
    assert difference == pytest.approx(a.mean() - b.mean())
    half = 1.96 * np.std(a.astype(float) - b) / np.sqrt(2000)
    assert low == pytest.approx(difference - half, abs=0.0015)
    assert high == pytest.approx(difference + half, abs=0.0015)
    (low_a, high_a), (low_b, high_b) = map(bootstrap_interval, (a, b))
    assert high - low < 0.5 * ((high_a - low_a) + (high_b - low_b))


def test_the_interval_takes_means_over_seeds_and_has_a_sign():
    a = np.array([1.0, 2 / 3, 1 / 3, 0.0] * 25)
    difference, low, high = intervals.paired_interval(a, np.zeros(100))
    assert difference == pytest.approx(0.5)
    assert 0.4 < low < 0.5 < high < 0.6
    other, other_low, other_high = intervals.paired_interval(np.zeros(100), a)
    assert other == pytest.approx(-0.5)
    assert -0.6 < other_low < -0.5 < other_high < -0.4
    assert intervals.paired_interval(a, np.zeros(100)) == (difference, low, high)
    assert intervals.paired_interval(a, np.zeros(100), seed=1) != (difference, low, high)


def test_level_widens():
    rng = np.random.default_rng(0)
    a, b = rng.random(500) < 0.6, rng.random(500) < 0.5
    _, low, high = intervals.paired_interval(a, b)
    _, lower, higher = intervals.paired_interval(a, b, level=0.99)
    assert lower < low < high < higher


@pytest.mark.parametrize(("a", "b"), [([1, 0], [1]), ([[1, 0]], [[1, 0]]), ([1, 0], [[1, 0]])])
@pytest.mark.parametrize("function", [intervals.paired_interval, intervals.mcnemar_exact])
def test_images_must_be_the_same(function, a, b):
    with pytest.raises(jaxtyping.TypeCheckError):
        function(np.array(a, bool), np.array(b, bool))


def test_a_bootstrap_of_groups_is_one_of_their_means():
    # Ten groups of 30 images, each all right or all wrong: no more evidence than ten images.
    right = np.arange(10) < 7
    groups = np.repeat([f"patient{i}" for i in range(10)], 30)
    assert bootstrap_interval(np.repeat(right, 30), groups=groups) == bootstrap_interval(right)
    low, high = accuracy_interval(np.repeat(right, 30), groups=groups)
    assert (low, high) == bootstrap_interval(right)
    alone = accuracy_interval(np.repeat(right, 30))
    assert high - low > 4 * (alone[1] - alone[0])


def test_a_bootstrap_of_groups_counts_their_images():
    # Samples of two groups of 1 and 3 images: means 1 (both the first), 1 / 4 and 0.
    values, groups = np.array([1.0, 0, 0, 0]), np.array([8, 5, 5, 5])
    # Of all samples a quarter are the first, and half are the second.
    assert bootstrap_interval(values, groups=groups, level=0.4) == (0.25, 0.25)
    assert bootstrap_interval(values, groups=groups) == (0.0, 1.0)


def test_groups_of_one_image_change_no_bootstrap():
    values = np.random.default_rng(0).random(50)
    alone = np.random.default_rng(1).permutation(50)
    assert bootstrap_interval(values, groups=alone) == bootstrap_interval(values)
    other = np.roll(values, 1)
    assert intervals.paired_interval(values, other, groups=alone) == (
        intervals.paired_interval(values, other)
    )


def test_many_groups_are_drawn_in_parts(monkeypatch):
    values = np.random.default_rng(0).random(40)
    whole = bootstrap_interval(values)
    monkeypatch.setattr(intervals, "_DRAWN_AT_ONCE", 40 * 7)
    assert bootstrap_interval(values) == pytest.approx(whole, rel=1e-12)


def test_groups_that_are_all_right_are_no_certainty():
    groups = np.repeat(np.arange(10), 4)
    assert accuracy_interval(np.ones(40), groups=groups) == wilson_interval(10, 10)
    assert accuracy_interval(np.tile([0.0, 1], 20), groups=groups) == wilson_interval(5, 10)


def crossed(a, b, paired=True, **arguments):
    return intervals.crossed_interval(
        np.array(a), np.array(b), **{"paired": paired, "resamples": 2000, **arguments}
    )


def few_right(seeds, count, images=400, seed=0):
    """Returns bool [S, N], each seed right on its own random share of the images."""
    return np.random.default_rng(seed).random((seeds, images)) < np.reshape(count, (-1, 1))


@pytest.mark.parametrize("groups", [None, np.arange(400) // 20])
@pytest.mark.parametrize("paired", [True, False])
def test_seeds_that_are_equal_have_the_interval_over_images(paired, groups):
    (a,), (b,) = few_right(1, 0.8), few_right(1, 0.7, seed=1)
    alone = intervals.paired_interval(a, b, resamples=20_000, groups=groups)
    found = crossed([a] * 5, [b] * (5 if paired else 6), paired, resamples=20_000, groups=groups)
    # In pairs the images drawn are the same ones too; else an end may be 1 or 2 images further.
    assert found == pytest.approx(alone, abs=1e-9 if paired else 2 / 400)


def test_images_that_are_equal_have_students_interval_over_seeds():
    # Leads of 0.1, 0.2, 0.3, 0.4 and 0.5 on every image: mean 0.3, standard error
    # sqrt(0.025 / 5) = 0.0707, Student's quantile with four degrees of freedom 2.776.
    a, b = np.repeat([[0.1], [0.2], [0.3], [0.4], [0.5]], 8, axis=1), np.zeros((5, 8))
    difference, low, high = crossed(a, b, resamples=20_000)
    assert difference == pytest.approx(0.3)
    # The mean of five drawn values has shorter tails than the normal distribution.
    assert low == pytest.approx(0.3 - 2.776 * 0.0707, abs=0.01)
    assert high == pytest.approx(0.3 + 2.776 * 0.0707, abs=0.01)
    # All 5 ** 5 samples, their distances from 0.3 made larger.
    means = np.mean(list(itertools.product(a[:, 0], repeat=5)), axis=1)
    all_means = 0.3 + (means - 0.3) * np.sqrt(5 / 4) * 2.7764 / 1.9600
    assert (low, high) == pytest.approx(np.quantile(all_means, [0.025, 0.975]), abs=0.002)


def test_seeds_that_are_not_pairs_vary_by_themselves():
    # Both vary alike: in pairs the lead does not vary at all, apart the variances add.
    a = np.repeat([[0.1], [0.2], [0.3], [0.4], [0.5]], 8, axis=1)
    assert crossed(a, a) == pytest.approx((0, 0, 0))
    _, low, high = crossed(a, a, paired=False, resamples=20_000)
    half = np.sqrt(2) * 2.776 * 0.0707
    assert (low, high) == pytest.approx((-half, half), abs=0.01)
    _, low, high = crossed(a, a[[0, 2, 4] * 2], paired=False)
    assert low < 0 < high


def test_two_seeds_by_hand():
    # Samples of two seeds: both the first, both the second, or one of each, twice as often. The
    # distance of 0.1 from the mean is made larger by sqrt(2) * 12.706 / 1.960.
    a, b = np.repeat([[0.4], [0.6]], 3, axis=1), np.full((2, 3), 0.2)
    far = 0.1 * np.sqrt(2) * 12.706 / 1.960
    assert crossed(a, b) == pytest.approx((0.3, 0.3 - far, 0.3 + far), abs=1e-3)
    half_level = crossed(a, b, level=0.4)
    assert half_level == pytest.approx((0.3, 0.3, 0.3))


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    difficulty = rng.random(400)
    a = difficulty < np.array([[0.70], [0.80], [0.75], [0.85], [0.65]])
    b = np.tile(difficulty < 0.70, (5, 1))
    difference, low, high = crossed(a, b)
    alone = intervals.paired_interval(a.mean(axis=0), b.mean(axis=0))
    assert difference == pytest.approx(alone[0])
    assert low < alone[1] and alone[2] < high
    assert high - low > 2 * (alone[2] - alone[1])
    assert crossed(a, b) == (difference, low, high)
    assert crossed(a, b, seed=1) != (difference, low, high)
    assert crossed(b, a) == pytest.approx((-difference, -high, -low), abs=0.01)


def test_the_interval_over_seeds_and_images_covers_as_often_as_it_says():
    # Leads of 0.05 plus 0.03 of luck of each seed, on 500 images of which one in five is in doubt.
    rng = np.random.default_rng(0)
    crossing, alone = 0, 0
    for _ in range(300):
        doubt = rng.random(500) < 0.2
        luck = rng.normal(0, 0.03, (5, 1)) / 0.2
        a = np.where(doubt, rng.random(500) < 0.75 + luck, True)
        b = np.broadcast_to(np.where(doubt, rng.random(500) < 0.5, True), (5, 500))
        _, low, high = crossed(a, b, resamples=400)
        crossing += low <= 0.05 <= high
        _, low, high = intervals.paired_interval(a.mean(0), b.mean(0), resamples=400)
        alone += low <= 0.05 <= high
    assert crossing / 300 == pytest.approx(0.96, abs=0.025)
    assert alone / 300 < 0.9


def test_too_few_seeds_to_draw_from():
    right = np.ones((2, 4), bool)
    with pytest.raises(ValueError, match="expected two seeds or more of each, got 2 and 1"):
        crossed(right, right[:1], paired=False)
    with pytest.raises(ValueError, match="expected as many seeds of both, got 2 and 3"):
        crossed(right, np.ones((3, 4), bool))


def test_a_lead_is_over_seeds_where_there_are_five():
    a, b = few_right(5, 0.8), few_right(5, 0.7, seed=1)
    seeds = np.arange(5)
    found = intervals.lead(a, b, seeds, seeds)
    assert (found.difference, *found.ci95) == intervals.crossed_interval(a, b, paired=True)
    assert (found.seeds, found.over, found.note) == (5, "seeds and images", "")
    order = np.array([3, 1, 4, 0, 2])
    assert intervals.lead(a, b[order], seeds, order) == found
    others = intervals.lead(a, b, seeds, seeds + 1)
    assert (others.difference, *others.ci95) == intervals.crossed_interval(a, b, paired=False)


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "1 seed: too few to say how much is the luck of training; 5 or more are needed"),
     (4, "4 seeds: too few to say how much is the luck of training; 5 or more are needed")],
)  # fmt: skip
def test_a_lead_of_few_seeds_is_over_images_alone(count, said):
    a, b = few_right(5, 0.8), few_right(count, 0.7, seed=1)
    found = intervals.lead(a, b, np.arange(5), np.arange(count))
    alone = intervals.paired_interval(a.mean(axis=0), b.mean(axis=0))
    assert (found.difference, *found.ci95) == alone
    assert (found.seeds, found.over, found.note) == (count, "images alone", said)
