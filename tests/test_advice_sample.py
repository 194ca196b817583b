import numpy as np
import pytest

from tl.advice import sample
from tl.errors import UserError

LABELS = np.array([0] * 60 + [1] * 30 + [2] * 10)


def test_every_start_of_the_order_is_stratified():
    order = sample.stratified_order(LABELS, 0)
    assert sorted(order) == list(range(100))
    for count in (10, 37, 50):
        shares = np.bincount(LABELS[order[:count]], minlength=3)
        assert np.abs(shares - count * np.array([0.6, 0.3, 0.1])).max() <= 1.5
    assert (order != sample.stratified_order(LABELS, 1)).any()


@pytest.mark.parametrize(("copies", "folds", "once"), [(1, 5, 100), (5, 3, 500), (20, 1, 667)])
def test_folds(copies, folds, once):
    labels = np.tile(LABELS, copies)
    held = sample.folds(labels)
    assert held.shape == (folds, len(labels))
    assert held.sum() == pytest.approx(once, abs=2)
    assert held.sum(axis=0).max() == 1
    for fold in held:  # classes in proportion
        shares = np.bincount(labels[fold], minlength=3) / fold.sum()
        np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=0.03)


def test_few_rows_of_many_classes_make_equal_folds():
    held = sample.folds(np.repeat(np.arange(10), 2))
    assert held.sum(axis=1).tolist() == [4, 4, 4, 4, 4]


def test_rows_are_those_a_run_would_use():
    labels = np.array([0, 1, -1, 0, 1, 0, 1])
    rows = sample.choose_rows(labels, 0, seed=0)
    assert sorted(rows.train) == [0, 1, 3, 4, 5, 6]
    assert (labels[rows.train] == rows.train_labels).all()
    assert rows.count == 6 and rows.val is None
    rows = sample.choose_rows(labels, 2, seed=0, val_labels=np.array([1, -1, 0]))
    assert np.bincount(rows.train_labels).tolist() == [2, 2]
    assert sorted(rows.val) == [0, 2]
    assert rows.count == 6


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1], [0, 0, 1, 2, 3]])
def test_too_few_images(labels):
    with pytest.raises(UserError, match="two classes with two images each at least"):
        sample.choose_rows(np.array(labels), 0, seed=0)


def test_what_half_a_minute_allows():
    assert sample.affordable(1.0) == 200
    assert sample.affordable(35.7) == 800
    assert sample.affordable(1000.0) == 3000


def test_the_first_batch_is_not_timed(monkeypatch):
    now = iter([10.0, 12.0, 14.0])  # when the batches come; compiling was before the first
    monkeypatch.setattr(sample.time, "perf_counter", lambda: next(now))
    asked = []

    def compute(rows):
        asked.append(rows)
        return [({"mask": np.ones(4, bool)}, {})] * 3

    assert sample._rate(compute, np.arange(5), 4) == 2.0
    assert asked[0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
