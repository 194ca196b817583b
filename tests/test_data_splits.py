import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from tl.data import splits
from tl.errors import UserError


def test_holdout_counts_by_hand():
    labels = np.repeat([0, 1, 2, 3], [10, 3, 2, 1])
    kept, held = splits.holdout(labels, 0.2, seed=0)
    # round(2.0) = 2, round(0.6) = 1, round(0.4) = 0 raised to 1, and an only row is kept.
    assert np.bincount(labels[held], minlength=4).tolist() == [2, 1, 1, 0]
    assert np.bincount(labels[kept], minlength=4).tolist() == [8, 2, 1, 1]


@pytest.mark.parametrize("fraction", [0.001, 0.2, 0.5, 0.999])
def test_holdout_is_sorted_disjoint_and_complete(fraction):
    labels = np.random.default_rng(0).integers(0, 7, 501)
    kept, held = splits.holdout(labels, fraction, seed=3)
    assert (np.diff(kept) > 0).all() and (np.diff(held) > 0).all()
    assert np.array_equal(np.sort(np.r_[kept, held]), np.arange(501))
    assert set(labels[kept]) == set(labels[held]) == set(range(7))


def test_left_out_rows_come_into_neither_part():
    labels = np.array([0, -1, 0, 1, -1, 1])
    kept, held = splits.holdout(labels, 0.5, seed=0)
    assert np.sort(np.r_[kept, held]).tolist() == [0, 2, 3, 5]
    assert splits.few_shot(labels, 2, seed=0).tolist() == [0, 2, 3, 5]


def test_the_seed_decides():
    labels = np.repeat(np.arange(5), 40)
    for function in (lambda seed: splits.holdout(labels, 0.3, seed)[1],
                     lambda seed: splits.few_shot(labels, 5, seed)):  # fmt: skip
        assert np.array_equal(function(1), function(1))
        assert not np.array_equal(function(1), function(2))


def test_few_shot_is_nested_over_k():
    labels = np.random.default_rng(1).integers(0, 4, 200)
    five, ten = (splits.few_shot(labels, k, seed=7) for k in (5, 10))
    assert np.bincount(labels[ten]).tolist() == [10] * 4
    assert set(five) < set(ten)


def test_too_few_examples_lists_the_classes():
    with pytest.raises(
        UserError,
        match=r"^data.examples_per_class: 4 examples per class.*class 1 has 3, class 2 has 1;",
    ):
        splits.few_shot(np.repeat([0, 1, 2], [4, 3, 1]), 4, seed=0)
    with pytest.raises(UserError, match="and 2 more classes have too few"):
        splits.few_shot(np.arange(12), 2, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_fraction_outside_the_open_interval(fraction):
    with pytest.raises(UserError, match="between 0 and 1"):
        splits.holdout(np.array([0, 0]), fraction, seed=0)


def test_no_examples_asked_for():
    with pytest.raises(UserError, match=r"^data.examples_per_class: expected at least 1, got 0"):
        splits.few_shot(np.array([0]), 0, seed=0)


def test_no_labelled_rows():
    kept, held = splits.holdout(np.array([-1, -1]), 0.5, seed=0)
    assert kept.size == held.size == splits.few_shot(np.array([-1]), 1, seed=0).size == 0


def test_a_negative_seed():
    with pytest.raises(UserError, match="expected a seed of at least 0, got -1"):
        splits.holdout(np.zeros(4, int), 0.5, -1)


LABELS = np.repeat([0, 1, -1, 2], [10, 20, 3, 30])


def test_train_and_val_of_one_split():
    train, val = splits.train_and_val(LABELS, 0, 0.2, seed=0)
    assert np.bincount(LABELS[train]).tolist() == [8, 16, 24]
    assert np.bincount(LABELS[val]).tolist() == [2, 4, 6]
    assert np.array_equal(np.sort(np.r_[train, val]), np.flatnonzero(LABELS >= 0))
    assert (np.diff(train) > 0).all() and (np.diff(val) > 0).all()


def test_few_shot_counts_train_and_val_together():
    train, val = splits.train_and_val(LABELS, 5, 0.2, seed=3)
    assert np.bincount(LABELS[train]).tolist() == [4, 4, 4]
    assert np.bincount(LABELS[val]).tolist() == [1, 1, 1]
    # Rows of the whole, not of the chosen ones.
    assert np.array_equal(np.sort(np.r_[train, val]), splits.few_shot(LABELS, 5, seed=3))
    again = splits.train_and_val(LABELS, 5, 0.2, seed=3)
    assert np.array_equal(train, again[0]) and np.array_equal(val, again[1])
    assert not np.array_equal(val, splits.train_and_val(LABELS, 5, 0.2, seed=4)[1])


def test_with_a_val_split_of_its_own_all_is_train():
    train, val = splits.train_and_val(LABELS, 0, None, seed=0)
    assert val is None and np.array_equal(train, np.flatnonzero(LABELS >= 0))
    train, val = splits.train_and_val(LABELS, 5, None, seed=3)
    assert val is None and np.array_equal(train, splits.few_shot(LABELS, 5, seed=3))


def test_the_mistakes_of_train_and_val_are_those_of_its_parts():
    with pytest.raises(UserError, match=r"11 examples per class.*class 0 has 10;"):
        splits.train_and_val(LABELS, 11, 0.2, seed=0)
    with pytest.raises(UserError, match=r"between 0 and 1, got 1.0"):
        splits.train_and_val(LABELS, 0, 1.0, seed=0)


def test_groups_of_one_row_change_nothing():
    labels = np.random.default_rng(0).integers(-1, 7, 501)
    alone = np.random.default_rng(1).permutation(501)
    for without, grouped in [
        (splits.holdout(labels, 0.2, 3), splits.holdout(labels, 0.2, 3, alone)),
        (splits.train_and_val(labels, 9, 0.3, 2), splits.train_and_val(labels, 9, 0.3, 2, alone)),
    ]:
        assert all(map(np.array_equal, without, grouped))
    grouped = splits.few_shot(labels, 9, 5, alone)
    assert np.array_equal(splits.few_shot(labels, 9, 5), grouped)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
def test_a_group_lies_on_one_side(fraction):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 90, 600)
    labels = np.where(rng.random(600) < 0.1, -1, (groups + (rng.random(600) < 0.2)) % 4)
    kept, held = splits.holdout(labels, fraction, 1, groups)
    assert not np.intersect1d(groups[kept], groups[held]).size
    assert np.array_equal(np.sort(np.r_[kept, held]), np.flatnonzero(labels >= 0))
    share = np.bincount(labels[held]) / np.bincount(labels[labels >= 0])
    assert np.abs(share - fraction).max() < 0.08  # a group has about 5 % of its class


def test_groups_by_hand():
    # Class 0: groups of 4, 4 and 2 rows; two of ten are wanted, which only the last one gives.
    # Class 1: groups of 6 and 4; two of ten are wanted, and the smaller one is nearer.
    # Class 2: one group, which is kept.
    labels = np.repeat([0, 1, 2], [10, 10, 3])
    groups = np.repeat([7, 3, 5, 1, 9, 2], [4, 4, 2, 6, 4, 3])
    for seed in range(5):
        kept, held = splits.holdout(labels, 0.2, seed, groups)
        assert held.tolist() == [8, 9, 16, 17, 18, 19]
        assert kept.tolist() == [*range(8), *range(10, 16), 20, 21, 22]


def test_the_last_row_of_a_class_is_kept_with_its_group():
    # Group 0 has the only row of class 1, so group 1 must be the one that is held out.
    labels, groups = np.array([0, 0, 1, 0, 0]), np.array([0, 0, 0, 1, 1])
    for seed in range(5):
        assert splits.holdout(labels, 0.5, seed, groups)[1].tolist() == [3, 4]


def test_no_group_can_be_held_out():
    labels, groups = np.array([0, 0, 1, 1, -1]), np.array([4, 4, 8, 8, 9])
    with pytest.raises(UserError, match="the 4 images are of 2 groups, and without any one of"):
        splits.holdout(labels, 0.5, 0, groups)


def test_few_shot_takes_every_group_before_a_second_row_of_one():
    labels, groups = np.zeros(12, int), np.repeat([5, 2, 8], [8, 3, 1])
    for seed in range(5):
        assert sorted(groups[splits.few_shot(labels, 3, seed, groups)]) == [2, 5, 8]
        assert sorted(groups[splits.few_shot(labels, 5, seed, groups)]) == [2, 2, 5, 5, 8]
        three, six = (set(splits.few_shot(labels, k, seed, groups)) for k in (3, 6))
        assert three < six


def test_groups_of_train_and_val():
    labels = np.repeat([0, 1], 40)
    groups = np.arange(80) // 4
    train, val = splits.train_and_val(labels, 20, 0.2, 0, groups)
    assert np.bincount(labels[train]).tolist() == [16, 16]  # two rows of each of ten groups
    assert np.bincount(labels[val]).tolist() == [4, 4]
    assert not np.intersect1d(groups[train], groups[val]).size


def test_folds_by_hand():
    # Class 0 has rows 0, 2, 3, 5; class 1 has 1, 4, 6, its first row in the second fold.
    held = splits.folds(np.array([0, 1, 0, 0, 1, 0, 1]), 3)
    assert [np.flatnonzero(rows).tolist() for rows in held] == [[0, 5, 6], [1, 2], [3, 4]]


def test_the_only_row_of_a_class_is_always_fitted():
    held = splits.folds(np.array([0, 0, 1, 2, 2]), 2)
    assert held.sum(axis=0).tolist() == [1, 1, 0, 1, 1]
    assert splits.folds(np.array([0, 1, 2]), 2).shape == (0, 3)


def test_folds_of_groups_by_hand():
    # Groups 7 (class 0), 3 (0 and 1), 5 (1), 2 (0), in this order. Group 3 goes to the fold that
    # is empty, 5 to the one without rows of class 1, 2 to the one with less of class 0.
    labels = np.array([0, 0, 0, 1, 1, 0])
    groups = np.array([7, 7, 3, 3, 5, 2])
    held = splits.folds(labels, 2, groups)
    assert held[0].tolist() == [True, True, False, False, True, False]
    assert held[1].tolist() == [False, False, True, True, False, True]


def test_groups_of_one_row_each_are_no_groups():
    labels = np.arange(30) % 4
    np.testing.assert_array_equal(
        splits.folds(labels, 5, np.arange(30)[::-1]), splits.folds(labels, 5)
    )


@pytest.mark.parametrize("seed", range(6))
def test_folds_fit_every_class_and_part_no_group(seed):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 5, 60), rng.integers(0, 18, 60)
    for held in (splits.folds(labels, 4), splits.folds(labels, 4, groups)):
        assert held.any(axis=1).all() and held.sum(axis=0).max() == 1
        for rows in held:
            assert set(labels[~rows]) == set(labels)
    assert all(not set(groups[rows]) & set(groups[~rows]) for rows in held)


def test_a_group_never_takes_a_class_out_of_its_fold():
    # Classes 0 and 1 have the two groups 0 and 1: both in one fold would leave none to fit.
    labels = np.array([0, 1, 0, 1, *[2] * 6, 2, 2])
    groups = np.array([0, 0, 1, 1, *range(2, 8), 0, 1])
    for count in (2, 3):
        for rows in splits.folds(labels, count, groups):
            assert set(labels[~rows]) == {0, 1, 2}


@pytest.mark.parametrize("count", [2, 5, 10])
def test_folds_are_as_stratified_as_scikit_learns(count):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [53, 31, 10]))
    ours = splits.folds(labels, count)
    theirs = [rows for _, rows in StratifiedKFold(count).split(labels, labels)]
    for label in range(3):
        counts = [sorted(np.sum(labels[rows] == label) for rows in held) for held in (ours, theirs)]
        assert counts[0] == counts[1]


def test_cross_validation_of_all_rows_and_of_few():
    labels = np.array([0, -1, 0, 1, 1, 0, 1, -1, 0, 1])
    rows, held = splits.cross_validation(labels, 0, 2, seed=3)
    assert rows.tolist() == [0, 2, 3, 4, 5, 6, 8, 9]
    assert held.sum(axis=0).tolist() == [1] * 8
    assert [np.bincount(labels[rows[fold]]).tolist() for fold in held] == [[2, 2], [2, 2]]
    few, held = splits.cross_validation(labels, 2, 2, seed=3)
    assert few.tolist() == splits.few_shot(labels, 2, 3).tolist()
    assert [np.bincount(labels[few[fold]]).tolist() for fold in held] == [[1, 1], [1, 1]]


def test_the_seed_decides_the_folds():
    labels = np.arange(40) % 2
    first, again, other = (splits.cross_validation(labels, 0, 5, seed)[1] for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_cross_validation_keeps_groups_whole():
    labels, groups = np.arange(40) % 2, np.arange(40) // 4
    rows, held = splits.cross_validation(labels, 0, 5, 0, groups)
    assert [len(set(groups[rows[fold]])) for fold in held] == [2] * 5
    assert held.sum(axis=0).tolist() == [1] * 40


def test_more_folds_than_rows_or_groups():
    with pytest.raises(UserError, match=r"^5 folds were asked for, but 4 rows make at most 3: "):
        splits.cross_validation(np.array([0, 0, 1, 1]), 0, 5, 0)
    with pytest.raises(UserError, match=r"but 2 groups make at most 2: .* or give more groups$"):
        splits.cross_validation(np.arange(8) % 2, 0, 3, 0, np.arange(8) // 4)
    with pytest.raises(UserError, match=r"but 3 rows make none: every class must keep a row"):
        splits.cross_validation(np.arange(3), 0, 2, 0)


def test_numbers_of_folds():
    assert splits.fold_count("10fold") == 10
    assert [splits.fold_count(val) for val in (0.2, "0.2", "fold", "5folds", "train")] == [None] * 5
    with pytest.raises(UserError, match=r"^data.val: expected 2fold or more, got '1fold'$"):
        splits.fold_count("1fold")


def test_rows_that_folds_choose_on():
    assert splits.chosen_on(splits.one_fold(3, 2), 5).tolist() == [3, 4]
    held = np.array([[0, 1, 0, 1], [1, 0, 0, 0]], bool)
    folds = splits.folds_of(held)
    assert splits.chosen_on(folds, 4).tolist() == [1, 3, 0]
    assert [fold.fit.tolist() for fold in folds] == [[0, 2], [1, 2, 3]]
