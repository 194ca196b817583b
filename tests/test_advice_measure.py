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
    singles = sum(count == 1 for count in counts)  # held out, their class is not known
    assert measured.top1 == pytest.approx(1 - singles / len(labels))
    assert min(measured.correct) >= len(counts) - singles


def test_two_hundred_classes():
    values = drawn(n=1000, classes=200, width=200)
    subsets = measure._subsets(values)
    assert list(subsets) == [200, 334, 667]
    for chosen in subsets.values():
        for (rows,) in chosen:
            assert len(set(values.labels[rows])) == 200  # also among the fewest


def test_paired_error():
    def of(right):
        return measure.Measured("x", 1, 0.0, 0.0, 0.0, 1.0, {5: np.array([right], float)})

    a, b = of([1, 1, 1, 0]), of([1, 0, 1, 1])
    # Differences 0, 1, 0, -1: variance 1/2, of the mean 1/8.
    assert measure.paired_error(a, b) == pytest.approx(np.sqrt(1 / 8))
    assert measure.paired_error(a, a) == 0.0


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
