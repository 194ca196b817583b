"""Rows of a run: which train, choose and test."""

import dataclasses

import numpy as np
import pytest

from tl.errors import UserError
from tl.runs.parts import divide


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
