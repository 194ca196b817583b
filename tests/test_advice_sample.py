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


def test_no_class_is_too_rare_for_a_start():
    labels = np.array([0] * 2000 + [1] * 3 + [2])
    for seed in range(5):
        start = labels[sample.stratified_order(labels, seed)]
        assert set(start[:3]) == {0, 1, 2}
        assert np.bincount(start[:5]).tolist() == [2, 2, 1]
        assert np.bincount(start[5:1000], minlength=3)[1] <= 1  # then in proportion


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


@pytest.mark.parametrize("counts", [(2, 2), (1, 2, 2), (2, 60), (3, 300), (2, 3000), (2,) * 200])
def test_every_fold_has_classes_to_train_on(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    held = sample.folds(labels)
    assert held.any(axis=1).all()
    for fold in held:
        assert set(labels[~fold]) >= set(np.flatnonzero(np.array(counts) > 1))


def test_many_classes_are_divided_once():
    assert len(sample.folds(np.repeat(np.arange(99), 5))) == 3
    (held,) = sample.folds(np.repeat(np.arange(100), 5))
    assert held.sum() == pytest.approx(500 / 3, abs=34)


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


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        ([0, 0, 0, 0], r"got 4 images of 1 class\(es\); give"),
        ([0, 1], r"got 2 images of 2 class\(es\), 2 of them with a single one"),
        ([0, 0, 1, 2, 3], r"got 5 images of 4 class\(es\), 3 of them with a single one"),
        ([0] * 9 + [1], r"got 10 images of 2 class\(es\), 1 of them with a single one"),
        ([-1, -1], r"got 0 images of 0 class\(es\); give"),
    ],
)
def test_too_few_images(labels, got):
    with pytest.raises(UserError, match=f"two classes with two images each at least, {got}"):
        sample.choose_rows(np.array(labels), 0, seed=0)


def test_single_images_do_where_others_have_two_or_val_is_a_split():
    assert sample.choose_rows(np.array([0, 0, 1, 1, 2, 3, 4]), 0, seed=0).count == 7
    assert sample.choose_rows(np.array([0, 1]), 0, seed=0, val_labels=np.array([1])).count == 3
    with pytest.raises(UserError, match="advice needs two classes at least, got 3 images of 1"):
        sample.choose_rows(np.zeros(3, int), 0, seed=0, val_labels=np.array([0, 1]))
    with pytest.raises(UserError, match=r"^data\.val: no image of it has a label"):
        sample.choose_rows(np.array([0, 1]), 0, seed=0, val_labels=np.array([-1]))


def test_images_are_two_of_each_class_at_least():
    sample.check_limit(400, classes=200)
    sample.check_limit(0, classes=200)
    with pytest.raises(UserError, match="--images of at least 400, two of each class, or 0"):
        sample.check_limit(399, classes=200)


def test_what_half_a_minute_allows():
    assert sample.affordable(1.0, 10) == 200
    assert sample.affordable(35.7, 10) == 800
    assert sample.affordable(1000.0, 10) == 3000
    assert sample.affordable(1.0, 200) == 1000  # five of each class
    assert sample.affordable(1.0, 1000) == 3000


def test_the_first_batch_is_not_timed(monkeypatch):
    now = iter([10.0, 12.0, 14.0])  # when the batches come; compiling was before the first
    monkeypatch.setattr(sample.time, "perf_counter", lambda: next(now))
    asked = []

    def compute(rows):
        asked.append(rows)
        return [({"mask": np.ones(4, bool)}, {})] * 3

    assert sample._rate(compute, np.arange(5), 4) == 2.0
    assert asked[0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_folds_hold_out_whole_groups():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 300)
    labels = groups % 4
    held = sample.folds(labels, groups)
    assert held.shape == (5, 300) and (held.sum(axis=0) == 1).all()
    for fold in held:
        assert not np.intersect1d(groups[fold], groups[~fold]).size
        share = np.bincount(labels[fold], minlength=4) / np.bincount(labels)
        assert np.abs(share - 0.2).max() < 0.1


def test_a_class_of_one_group_is_not_held_out():
    labels = np.array([0, 0, 1, 1, 1, 1, 2, 2, 2])
    groups = np.array([5, 5, 3, 3, 8, 8, 1, 2, 4])
    held = sample.folds(labels, groups)
    assert not held[:, :2].any() and (held[:, 2:].sum(axis=0) == 1).all()
    for fold in held:
        assert {1, 2} <= set(labels[~fold])
    with pytest.raises(UserError, match="advice needs two groups of some class at least, got 1 gr"):
        sample.folds(labels[:2], groups[:2])


def test_few_rows_of_a_class_come_from_many_groups():
    labels, groups = np.repeat([0, 1], 20), np.arange(40) // 5
    rows = sample.choose_rows(labels, 4, 0, groups=groups)
    assert sorted(rows.groups.tolist()) == sorted(groups[rows.train].tolist()) == list(range(8))
