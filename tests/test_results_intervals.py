import numpy as np
import pytest

from tl.results.intervals import seeds_interval


def test_two_seeds():
    # Standard error 0.01; Student's quantile with one degree of freedom is 12.706.
    assert seeds_interval([0.90, 0.92]) == pytest.approx(
        (0.91, 0.91 - 0.12706, 0.91 + 0.12706), 1e-4
    )


def test_three_seeds_at_another_level():
    # Mean 2, standard error 1 / sqrt(3); with two degrees of freedom 2.920 at 90 %.
    mean, low, high = seeds_interval([1, 2, 3], level=0.9)
    assert (mean, high - 2, 2 - low) == pytest.approx((2, 1.6858, 1.6858), rel=1e-4)


def test_equal_seeds():
    assert seeds_interval([0.5, 0.5]) == (0.5, 0.5, 0.5)


def test_it_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [seeds_interval(rng.normal(size=3)) for _ in range(2000)]
    assert np.mean([low <= 0 <= high for _, low, high in intervals]) == pytest.approx(
        0.95, abs=0.01
    )


@pytest.mark.parametrize("values", [[], [0.5], [[0.1, 0.2]]])
def test_too_few(values):
    with pytest.raises(ValueError, match="two values or more"):
        seeds_interval(values)
