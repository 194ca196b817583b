import numpy as np
import pytest
from scipy.special import softmax

from tl.results import calibration


def drawn(temperature=1.0, count=20000, classes=5, seed=0):
    """Logits that are exactly calibrated, times the temperature, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, classes))
    cumulative = softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random((count, 1)) > cumulative).sum(axis=1).clip(max=classes - 1)
    return temperature * logits, labels


def test_probabilities_by_hand():
    found = calibration.probabilities(np.array([[0.0, np.log(9.0)]], np.float32), 2.0)
    np.testing.assert_allclose(found, [[0.25, 0.75]], rtol=1e-6)
    assert found.dtype == np.float64


def test_probabilities_of_large_logits():
    found = calibration.probabilities(np.array([[1e5, -1e5], [1e30, 1e30]], np.float32), 0.05)
    np.testing.assert_array_equal(found, [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0, 10.0])
def test_temperature_is_the_factor_that_scaled_calibrated_logits(factor):
    logits, labels = drawn(factor)
    assert calibration.temperature(logits, labels) == pytest.approx(factor, rel=0.03)
    again = calibration.temperature(logits * 1.5, labels)
    assert again == pytest.approx(1.5 * calibration.temperature(logits, labels), rel=1e-4)


def test_temperature_by_hand():
    # Of four examples with logits (x, 0) three are right: p = 3 / 4 is x / T = log 3.
    logits, labels = np.array([[2.0, 0.0]] * 4), np.array([0, 0, 0, 1])
    assert calibration.temperature(logits, labels) == pytest.approx(2 / np.log(3), rel=1e-5)


def test_temperature_at_its_bounds():
    low, high = calibration.TEMPERATURES
    separable = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert calibration.temperature(separable, np.array([0, 1])) == low
    assert calibration.temperature(30 * separable, np.array([0, 1])) == low  # loss 0 above it, too
    assert calibration.temperature(separable, np.array([1, 0])) == high


def test_temperature_is_one_where_nothing_is_better():
    assert calibration.temperature(np.zeros((3, 2)), np.array([0, 1, 1])) == 1.0
    certain = np.array([[1e6, 0.0], [0.0, 1e6]])  # loss 0 at any temperature
    assert calibration.temperature(certain, np.array([0, 1])) == 1.0


def test_temperature_of_large_logits_is_finite():
    logits, labels = drawn(1e4, count=100)
    assert calibration.temperature(logits.astype(np.float32), labels) == 20.0


def test_reliability_by_hand():
    confidence = np.array([0.55, 0.6, 0.95, 0.9, 0.85])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    found = calibration.reliability(probabilities, np.array([0, 1, 0, 0, 1]), bins=5)
    np.testing.assert_allclose(found.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert found.counts.tolist() == [0, 0, 2, 0, 3]  # 0.6 belongs to (0.4, 0.6]
    np.testing.assert_allclose(found.confidence, [np.nan, np.nan, 0.575, np.nan, 0.9])
    np.testing.assert_allclose(found.accuracy, [np.nan, np.nan, 0.5, np.nan, 2 / 3])
    assert found.ece == pytest.approx(2 / 5 * 0.075 + 3 / 5 * (0.9 - 2 / 3))


@pytest.mark.parametrize(("top", "bin"), [(0.5, 0), (np.nextafter(0.5, 1), 1), (1.0, 1)])
def test_a_bin_holds_its_upper_edge(top, bin):
    found = calibration.reliability(np.array([[top, 1 - top]]), np.array([0]), bins=2)
    assert found.counts.tolist() == np.eye(2, dtype=int)[bin].tolist()


def test_confidence_just_beyond_one_is_in_the_last_bin():
    found = calibration.reliability(np.array([[1 + 1e-12, 0.0]]), np.array([0]))
    assert found.counts[-1] == 1
    assert found.ece == pytest.approx(0, abs=1e-9)


def test_temperature_scaling_lowers_the_error():
    logits, labels = drawn(4.0)
    before = calibration.reliability(calibration.probabilities(logits), labels)
    chosen = calibration.temperature(logits, labels)
    after = calibration.reliability(calibration.probabilities(logits, chosen), labels)
    assert before.ece > 0.1
    assert after.ece < 0.015
    assert before.counts.sum() == after.counts.sum() == len(labels)


def test_sigmoid_probabilities_by_hand():
    logits = np.array([[0.0, np.log(9.0)], [1e30, -1e30]])
    found = calibration.probabilities(logits, 2.0, "sigmoid")
    np.testing.assert_allclose(found, [[0.5, 0.75], [1, 0]], rtol=1e-12)


def test_sigmoid_temperature_by_hand():
    # Each class's logit is right for three of four examples: p = 3 / 4 is 2 / T = log 3. Softmax
    # sees the difference of the two logits, which is twice as large.
    logits, labels = np.array([[2.0, -2.0]] * 4), np.array([0, 0, 0, 1])
    found = calibration.temperature(logits, labels, "sigmoid")
    assert found == pytest.approx(2 / np.log(3), rel=1e-5)
    assert calibration.temperature(logits, labels) == pytest.approx(4 / np.log(3), rel=1e-5)


def test_sigmoid_temperature_has_the_lowest_binary_cross_entropy():
    logits, labels = drawn(3.0, count=50)
    targets = np.eye(5)[labels]

    def loss(temperature):
        p = 1 / (1 + np.exp(-logits / temperature))
        return -np.sum(targets * np.log(p) + (1 - targets) * np.log1p(-p), axis=1).mean()

    found = calibration.temperature(logits, labels, "sigmoid")
    assert loss(found) < min(loss(0.999 * found), loss(1.001 * found))


def test_sigmoid_temperature_at_its_bounds():
    low, high = calibration.TEMPERATURES
    separable = 30 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert calibration.temperature(separable, np.array([0, 1]), "sigmoid") == low
    assert calibration.temperature(separable, np.array([1, 0]), "sigmoid") == high
    undecided = np.zeros((3, 2))
    assert calibration.temperature(undecided, np.array([0, 1, 1]), "sigmoid") == 1.0


def test_sigmoid_confidence_is_that_of_the_predicted_class():
    logits = np.log([[4.0, 9.0], [0.25, 1 / 9]])  # p = 0.8, 0.9; 0.2, 0.1
    found = calibration.reliability(
        calibration.probabilities(logits, 1.0, "sigmoid"), np.array([1, 1]), bins=2
    )
    np.testing.assert_allclose(found.confidence, [0.2, 0.9])
    np.testing.assert_allclose(found.accuracy, [0, 1])
    assert found.ece == pytest.approx(0.15)


def test_a_temperature_that_does_not_help_on_held_out_val_is_not_applied():
    seven_of_ten = np.log([[0.7, 0.3]] * 10)  # calibrated as they are
    labels = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1])
    found = calibration.fit(seven_of_ten, labels)
    assert found.best == pytest.approx(1.0) and not found.helps and found.temperature == 1.0
    logits, labels = drawn(4.0)
    found = calibration.fit(logits, labels)
    assert found.helps and found.temperature == calibration.temperature(logits, labels) > 3


@pytest.mark.parametrize(("scale", "helps"), [(3.0, True), (0.9, False)])
def test_the_halves_alternate_within_each_class(scale, helps):
    """Rows are sorted by nothing; each half has every second row of each class."""
    logits, labels = drawn(scale, count=40)
    rows = np.arange(40)
    found = calibration.fit(logits, labels)
    halves = [[], []]
    for label in range(5):
        for place, row in enumerate(rows[labels == label]):
            before = sum(np.sum(labels == other) for other in range(label))
            halves[(before + place) % 2].append(row)

    def loss(chosen, temperature):
        p = calibration.probabilities(logits[chosen], temperature)
        return -np.sum(np.log(p[np.arange(len(chosen)), labels[chosen]]))

    one, other = halves
    crossed = sum(
        loss(b, calibration.temperature(logits[a], labels[a]))
        for a, b in ((one, other), (other, one))
    )
    assert found.helps == (crossed < loss(rows, 1.0)) == helps
    assert found.temperature == (calibration.temperature(logits, labels) if helps else 1.0)


def test_one_row_has_no_halves():
    assert not calibration.fit(np.array([[2.0, 0.0]]), np.array([1])).helps


def test_what_a_temperature_does_to_others():
    logits = np.log([[0.75, 0.25]] * 4)  # three of four are right: calibrated as they are
    labels = np.array([0, 0, 0, 1])
    sharper = calibration.scaling(logits, labels, calibration.Fit(0.5))
    assert sharper.before.ece == pytest.approx(0.0)
    assert sharper.after.ece == pytest.approx(0.9 - 0.75)  # 0.75^2 / (0.75^2 + 0.25^2) = 0.9
    # Test has no say: what it makes worse there is applied all the same.
    assert sharper.fit.temperature == 0.5


def test_a_temperature_at_the_bound_is_not_applied():
    logits, labels = np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([0, 1])
    found = calibration.fit(logits, labels)  # all are right: sharper is always better
    assert found.best == calibration.TEMPERATURES[0] and found.temperature == 1.0
