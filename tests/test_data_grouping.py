import re

import numpy as np
import pytest

from tl.data import grouping
from tl.errors import UserError


class Split:
    def __init__(self, split, names):
        self.split, self._names = split, names

    def group_names(self):
        return None if self._names is None else np.array(self._names)


PATHS = ["cat/p7_1.png", "cat/p7_2.png", "dog/p12_4.png"]


def test_a_pattern_names_the_group():
    assert grouping.by_pattern(PATHS, r"(p\d+)_") == ["p7", "p7", "p12"]
    assert grouping.by_pattern(PATHS, r"p\d+") == ["p7", "p7", "p12"]  # all that it matches
    assert grouping.by_pattern(PATHS, r"(\w+)/p(\d+)") == ["cat/7", "cat/7", "dog/12"]


def test_a_path_in_which_it_finds_nothing():
    paths = [*PATHS, "dog/x.png"]
    message = (
        r"^data\.group_pattern: '.*' finds nothing in 1 of 4 paths, such as dog/x\.png; '(.*)'"
    )
    for pattern in (r"(p\d+)_", r"p\d+(?=_)"):
        with pytest.raises(UserError) as error:
            grouping.by_pattern(paths, pattern)
        found = re.match(message, str(error.value))
        assert found  # and what it says to do instead works
        said = found[1].replace("\\\\", "\\")
        assert grouping.by_pattern(paths, said) == ["p7", "p7", "p12", "dog/x.png"]
    with pytest.raises(
        UserError, match=r"^data\.group_pattern: '\(p' is no regular expression: mi"
    ):
        grouping.by_pattern(PATHS, "(p")


def test_two_kinds_of_groups_joined():
    first, second = np.array([4, 4, 9, 2, 7]), np.array([0, 1, 1, 5, 5])
    assert grouping.joined(first, second).tolist() == [1, 1, 1, 0, 0]
    assert grouping.joined(first, None).tolist() == first.tolist()
    assert grouping.joined(None, second).tolist() == second.tolist()
    assert grouping.joined(None, None) is None


def test_numbers_of_names():
    assert grouping.numbers(np.array(["b", "a", "b"])).tolist() == [1, 0, 1]


def test_a_group_in_two_splits_is_refused():
    train = Split("train", ["p1", "p2", "p3", "p4", "p4"])
    apart = {"train": train, "val": Split("val", None), "test": Split("test", ["p9"])}
    grouping.check_apart({**apart, "other": object()})
    text = r"^4 groups have images in train and in test: p1, p2, p3, \.\.\.; put each wholly"
    with pytest.raises(UserError, match=text):
        grouping.check_apart({**apart, "test": Split("test", ["p4", "p3", "p2", "p1", "p9"])})
    with pytest.raises(UserError, match=r"^1 group has images in val and in test: p9; put"):
        grouping.check_apart({"val": Split("val", ["p9"]), "test": Split("test", ["p9"])})
