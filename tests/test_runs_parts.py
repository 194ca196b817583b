"""Rows of a run: which train, choose and test."""

import dataclasses

import numpy as np
import pytest

from tl.errors import UserError
from tl.runs.parts import divide, divide_for_probe


@dataclasses.dataclass(frozen=True)
class Labels:
    """A split of which only the labels matter."""

    values: tuple[int, ...]

    def labels(self):
        return np.array(self.values)


TRAIN = Labels((0, 0, 0, 0, 1, 1, 1, 1, -1))
TEST = Labels((0, -1, 1))


def test_val_is_carved_from_train_and_nothing_without_a_label_is_used():
    parts = divide({"train": TRAIN, "test": TEST}, 0, 0, 0.25)
    assert parts["train"][0] is parts["val"][0] is TRAIN and parts["test"][0] is TEST
    train, val = (parts[part][1] for part in ("train", "val"))
    assert sorted([*train, *val]) == list(range(8))
    assert [TRAIN.values[row] for row in val] == [0, 1]  # a quarter of each class
    assert parts["test"][1].tolist() == [0, 2]


def test_a_val_split_of_its_own_is_taken_whole_whatever_the_fraction():
    val = Labels((1, -1, 0, 0))
    parts = divide({"train": TRAIN, "test": TEST, "val": val}, 2, 0, 0.25)
    assert parts["val"][0] is val and parts["val"][1].tolist() == [0, 2, 3]
    assert [TRAIN.values[row] for row in parts["train"][1]] == [0, 0, 1, 1]


def test_the_seed_decides_which_examples():
    opened = {"train": TRAIN, "test": TEST}
    chosen = [divide(opened, 2, seed, 0.5)["train"][1].tolist() for seed in (0, 0, 1, 2, 3)]
    assert chosen[0] == chosen[1]
    assert len({tuple(rows) for rows in chosen}) > 1


@pytest.mark.parametrize(
    ("opened", "k", "part"),
    [
        ({"train": Labels((0, 1)), "test": TEST}, 0, "val"),  # one example of each class
        ({"train": TRAIN, "test": Labels((-1,))}, 0, "test"),
        ({"train": TRAIN, "test": TEST, "val": Labels((-1, -1))}, 0, "val"),
    ],
)
def test_a_part_without_images_is_refused(opened, k, part):
    with pytest.raises(UserError, match=f"no image is left for {part}; give more examples a class"):
        divide(opened, k, 0, 0.25)


def test_groups_of_train_are_not_divided():
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4])
    parts = divide({"train": TRAIN, "test": TEST}, 0, 0, 0.5, groups)
    train, val = (set(groups[parts[part][1]]) for part in ("train", "val"))
    assert len(train) == len(val) == 2 and not train & val


def test_a_probe_with_one_val_is_divided_as_other_runs_are():
    opened = {"train": TRAIN, "test": TEST}
    found, same = divide_for_probe(opened, 0, 0, 0.25), divide(opened, 0, 0, 0.25)
    for part, (source, rows) in same.items():
        assert found.parts[part][0] is source and found.parts[part][1].tolist() == rows.tolist()
    assert [rows.tolist() for _, rows in found.fitted] == [
        same[part][1].tolist() for part in ("train", "val")
    ]
    assert [np.arange(8)[rows].tolist() for rows in found.folds[0]] == [list(range(6)), [6, 7]]
    assert found.counts == {"train": 6, "val": 2, "test": 2}


def test_folds_leave_no_row_for_val_and_hold_out_each_once():
    found = divide_for_probe({"train": TRAIN, "test": TEST}, 0, 0, None, folds=4)
    ((source, train),) = found.fitted
    assert source is TRAIN and train.tolist() == list(range(8))
    assert found.counts == {"train": 8, "val": 0, "test": 2}
    assert sorted(found.parts["val"][1]) == list(range(8))
    for fold in found.folds:
        assert sorted([*fold.fit, *fold.choose]) == list(range(8))
        assert [TRAIN.values[row] for row in fold.choose] == [0, 1]  # one of each class


def test_few_examples_may_be_folded():
    found = divide_for_probe({"train": TRAIN, "test": TEST}, 2, 1, None, folds=2)
    assert [len(fold.choose) for fold in found.folds] == [2, 2]
    empty = Labels((-1,))
    with pytest.raises(UserError, match="no image is left for test"):
        divide_for_probe({"train": TRAIN, "test": empty}, 0, 0, None, folds=2)
