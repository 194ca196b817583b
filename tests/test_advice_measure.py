import numpy as np
import pytest

from tl.advice import measure, sample


def drawn(n=150, classes=3, width=4, noise=0.1):
    labels = np.arange(n) % classes
    rng = np.random.default_rng(0)
    good = np.eye(classes, width)[labels] + rng.normal(0, noise, (n, width))
    poor = rng.normal(size=(n, width))
    features = {"good": good.astype(np.float32), "poor": poor.astype(np.float32)}
    return sample.Sample(features, labels, sample.folds(labels), 1.0, False)


@pytest.fixture(scope="module")
def measured():
    values = drawn()
    return {name: measure.measure(values, name, 3) for name in ("good", "poor", "good+poor")}


def test_good_features_and_poor_ones(measured):
    good, poor = measured["good"], measured["poor"]
    assert good.top1 == 1.0 and good.knn_top1 == 1.0
    assert poor.top1 < 0.6 and poor.knn_top1 < 0.6  # guessing is a third
    assert good.logme > poor.logme and good.h_score > poor.h_score
    assert measured["good+poor"].width == 8
    assert measured["good+poor"].top1 > 0.95


def test_three_sizes_of_the_same_held_out_rows(measured):
    correct = measured["poor"].correct
    assert list(correct) == [30, 60, 120]  # of 120 rows that a fold of five trains on
    assert [c.shape for c in correct.values()] == [(2, 150), (2, 150), (1, 150)]
    assert measured["poor"].as_dict()["top1"]["120"] == correct[120].mean()


def test_one_part_held_out_and_few_rows():
    values = drawn(n=12)
    held = np.zeros((1, 12), bool)
    held[0, :3] = True
    values = sample.Sample(values.features, values.labels, held, 1.0, False)
    correct = measure.measure(values, "good", 3).correct
    assert list(correct) == [3, 4, 9]  # a row of each class at least
    assert correct[9].shape == (1, 3)


@pytest.mark.parametrize("counts", [(2, 2), (1, 2, 2), (2, 60), (3, 300)])
def test_few_rows_of_a_class(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    good = np.eye(len(counts), dtype=np.float32)[labels]
    values = sample.Sample({"good": good}, labels, sample.folds(labels), 1.0, False)
    measured = measure.measure(values, "good", len(counts))
    assert measured.top1 == 1
    singles = sum(count == 1 for count in counts)  # which are not held out
    assert measured.correct[max(measured.correct)].shape[1] == len(labels) - singles
    assert min(measured.correct) >= len(counts) - singles


def test_two_hundred_classes():
    values = drawn(n=1000, classes=200, width=200)
    subsets = measure._subsets(values)
    assert list(subsets) == [200, 334, 667]
    for chosen in subsets.values():
        for (rows,) in chosen:
            assert len(set(values.labels[rows])) == 200  # also among the fewest


def test_standard_error():
    # Variance 1/2, of the mean 1/8.
    assert measure.standard_error(np.array([0.0, 1.0, 0.0, -1.0])) == pytest.approx(np.sqrt(1 / 8))
    assert measure.standard_error(np.ones(3)) == 0.0


def probed(name, right, losses=None, width=1):
    """Returns an endpoint of one subset whose strengths have [L, N] right."""
    correct = np.atleast_2d(np.array(right, float))[:, None]
    losses = np.zeros(correct.shape) if losses is None else np.array(losses, float)[:, None]
    tried = measure.Tried(correct, losses)
    return measure.Measured(name, width, 0.0, 0.0, 0.0, 1.0, {5: correct[tried.best()]}, tried)


def test_the_lowest_loss_of_strengths_one_example_short_of_the_best():
    right = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]
    losses = [[4, 4, 4, 4], [1, 1, 1, 9], [0, 0, 0, 0]]
    tried = probed("a", right, losses).tried
    assert tried.best() == 1
    assert tried.best(np.array([False, False, True, True])) == 0


def test_the_endpoint_is_the_best_by_a_standard_error_on_the_rows_asked_about():
    late = np.arange(100) >= 50
    pooled = probed("pooled", late, width=9)
    early = probed("early", ~late)
    even = probed("even", np.ones(100))
    assert measure.choose([early, pooled])[0] is pooled  # as good
    assert measure.choose([early, pooled], ~late)[0] is early
    assert measure.choose([early, even, pooled])[0] is even
    found, right = measure.choose([probed("a", np.arange(100) >= 48), pooled])
    assert found.endpoint == "a" and right.sum() == 52  # two rows, both for it
    mixed = np.where(
        np.arange(100) < 60, np.arange(100) < 32, late
    )  # 22 better: 32 for, 10 against
    assert measure.choose([probed("b", mixed), pooled])[0].endpoint == "b"


def test_luck_in_the_choice_is_not_expected_again():
    # A hundred endpoints that guess: the best is better than a half on the rows that choose it.
    rng = np.random.default_rng(0)
    guesses = [probed(f"e{i}", rng.integers(0, 2, 200)) for i in range(99)]
    guesses.append(probed("pooled", rng.integers(0, 2, 200)))
    assert measure.choose(guesses)[1].mean() > 0.56
    assert measure.unseen(guesses).mean() == pytest.approx(0.5, abs=2 * np.sqrt(0.25 / 200))


def test_without_a_choice_all_rows_are_unseen():
    right = np.arange(30) % 3 > 0
    np.testing.assert_array_equal(measure.unseen([probed("pooled", right)]), right)
    np.testing.assert_array_equal(measure.unseen([probed("pooled", [1])]), [1])


@pytest.mark.parametrize(
    ("best", "joined"), [("a", "a+b"), ("b", "a+b+c"), ("c", "b+c+d"), ("d", "b+c+d")]
)
def test_around(best, joined):
    assert measure.around(("a", "b", "c", "d"), best) == joined


def test_around_two_endpoints():
    assert measure.around(("a", "b"), "b") == measure.around(("a", "b"), "a") == "a+b"


def test_head_entropy():
    assert measure.head_entropy(np.zeros((2, 7))) == pytest.approx(1.0)
    sure = np.array([[1e4, 0.0, 0.0, 0.0], [0.0, 0.0, -1e4, -1e4]])
    assert measure.head_entropy(sure) == pytest.approx(0.25)  # none, and log 2 of log 4
