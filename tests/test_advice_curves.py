import numpy as np
import pytest
from scipy import stats

from tl.advice import curves
from tl.advice.curves import exponent


def correct(*tops, rows=1000):
    """Returns one subset for each accuracy, the first rows right."""
    return np.stack([(np.arange(rows) < round(top * rows)).astype(float) for top in tops])


def estimate(measured, num_train, unseen=None):
    """Returns an estimate; the choice of the probe was no luck unless `unseen` says otherwise."""
    return curves.estimate(
        measured, num_train, measured[max(measured)].mean(axis=0) if unseen is None else unseen
    )


def test_exponent_of_a_power_law():
    sizes = np.array([100, 200, 400])
    assert exponent(sizes, 3 * sizes**-0.25) == pytest.approx(0.25)
    assert exponent(sizes, np.array([0.1, 0.2, 0.3])) == 0.0  # growing with rows is noise
    assert exponent(sizes, 1.0 / sizes**2) == 1.0
    assert exponent(np.array([50]), np.array([0.3])) == 0.0


def test_as_many_rows_as_measured_give_what_was_measured():
    known = estimate({100: correct(0.6, 0.6), 200: correct(0.7, 0.7), 400: correct(0.8)}, 400)
    assert known.top1 == pytest.approx(0.8)
    # Subsets agree, so that the interval is Clopper's and Pearson's.
    exact = stats.binomtest(800, 1000).proportion_ci(method="exact")
    assert (known.low, known.high) == pytest.approx((exact.low, exact.high))


def test_what_to_expect_is_of_rows_that_did_not_choose():
    measured = {100: correct(0.6, 0.6), 400: correct(0.8)}
    lucky, known = estimate(measured, 400), estimate(measured, 400, correct(0.75)[0])
    exact = stats.binomtest(750, 1000).proportion_ci(method="exact")
    assert (known.top1, known.low, known.high) == pytest.approx((0.75, exact.low, exact.high))
    assert known.exponent == lucky.exponent


def test_more_rows_give_half_the_exponent_and_the_interval_all_or_nothing():
    # Error 0.4, 0.2 at fourfold rows: b = 1/2, but for half an example.
    measured = {100: correct(0.6), 400: correct(0.8)}
    known, more = estimate(measured, 400), estimate(measured, 6400)
    b = more.exponent
    assert b == pytest.approx(0.5, abs=2e-3)
    assert 1 - more.top1 == pytest.approx(0.2 * 16 ** (-b / 2))
    assert more.low == known.low
    assert 1 - more.high == pytest.approx((1 - known.high) * 16**-b)
    assert estimate(measured, 100).top1 == known.top1  # no fewer than were measured


def test_subsets_that_differ_widen_the_interval():
    narrow = estimate({100: correct(0.6, 0.6), 200: correct(0.8)}, 200)
    wide = estimate({100: correct(0.59, 0.61), 200: correct(0.8)}, 200)
    spread = 2 * np.std([0.59, 0.61], ddof=1)
    assert 0.8 - wide.low == pytest.approx(np.hypot(0.8 - narrow.low, spread))
    assert wide.high - 0.8 == pytest.approx(np.hypot(narrow.high - 0.8, spread))


@pytest.mark.parametrize(("top", "low", "high"), [(1.0, 0.6915, 1.0), (0.0, 0.0, 0.3085)])
def test_none_and_all_right(top, low, high):
    # The exact interval of 0 of 10 ends at 1 - 0.025^(1/10).
    known = estimate({5: correct(top, rows=10), 10: correct(top, rows=10)}, 10)
    assert (known.low, known.high) == pytest.approx((low, high), abs=1e-4)
