import numpy as np
import pytest

from tl.data import division
from tl.data.division import Wanted
from tl.errors import UserError


class Labels:
    """A split that has labels alone."""

    name, version, classes = "birds", "1", ("a", "b")
    image_shape, id_bytes = None, 1

    def __init__(self, labels, split="", groups=None):
        self._labels, self.split, self._groups = np.array(labels, np.int32), split, groups
        self.warnings = []

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, row):
        raise NotImplementedError

    def labels(self):
        return self._labels

    def groups(self):
        return None if self._groups is None else np.array(self._groups)

    def group_names(self):
        return None if self._groups is None else np.array(self._groups).astype(str)

    def warn(self, text):
        self.warnings.append(text)

    def subset(self, rows, split):
        groups = None if self._groups is None else np.array(self._groups)[rows]
        return Labels(self._labels[rows], split, groups)


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [
        (["train", "val", "test"], {}, {"train": "train", "val": "val", "test": "test"}),
        (["Training", "VALID", "Testing"], {}, {"train": "Training", "val": "VALID", "test": "T"}),
        (["train", "extra"], {}, {"train": "train"}),
        (["train", "validation"], {"test": "validation"}, {"train": "train", "test": "validation"}),
        (["a", "b"], {"train": "b", "test": "a"}, {"train": "b", "test": "a"}),
        (["a", "b"], {"train": "b", "val": "a"}, {"train": "b", "val": "a"}),
        ([""], {}, {"train": ""}),
    ],
)  # fmt: skip
def test_names_of_splits(there, asked, found):
    named = division.named(there, Wanted(**asked), "t.csv")
    assert {part: name[: len(found[part])] for part, name in named.items()} == found


@pytest.mark.parametrize(
    ("there", "asked", "message"),
    [
        (["fit", "test"], {}, "data.train: t.csv has no split 'train'; there are 'fit', 'test'"),
        (["train"], {"test": "tset"}, "data.test: t.csv has no split 'tset'; there are 'train'"),
        (["train"], {"val": "dev"}, "data.val: t.csv has no split 'dev'; there are 'train'"),
        ([""], {"val": "val2"}, "data.val: there is no 'val2', for t.csv is not divided into spl"),
        ([""], {"train": "fit"}, "data.train: there is no 'fit', for t.csv is not divided into"),
    ],
)
def test_splits_that_are_not_there(there, asked, message):
    with pytest.raises(UserError, match=f"^{message}"):
        division.named(there, Wanted(**asked), "t.csv")


def test_one_split():
    assert division.one(["train", "Testing"], "test", "test", "t.csv") == "Testing"
    assert division.one([""], "", "test", "t.csv") == ""
    with pytest.raises(UserError, match=r"^data.test: expected '', which is all of it: t.csv is"):
        division.one([""], "test", "test", "t.csv")
    with pytest.raises(UserError, match=r"^data.test: t.csv has no split ''; there are 'train'"):
        division.one(["train"], "", "test", "t.csv")


def test_a_test_split_that_is_there_stays():
    opened = {"train": Labels([0, 1]), "test": Labels([0])}
    assert division.with_test(opened, Wanted(test_fraction=9.0)) == opened


def test_a_share_of_train_is_tested_on():
    whole = Labels([0] * 10 + [1] * 20)
    whole.warn("odd")
    parts = division.with_test({"train": whole}, Wanted(test_fraction=0.3))
    assert np.bincount(parts["test"].labels()).tolist() == [3, 6]
    assert np.bincount(parts["train"].labels()).tolist() == [7, 14]
    assert (parts["train"].split, parts["test"].split) == ("train", "test")
    assert (parts["train"].warnings, parts["test"].warnings) == (["odd"], [])


def test_a_share_of_a_named_split_is_warned_of():
    opened = {"train": Labels([0, 0, 1, 1], "fit"), "val": Labels([0, 1], "dev")}
    parts = division.with_test(opened, Wanted("fit", "dev"))
    assert parts["test"].warnings == [
        "there is no 'test': 2 of the 4 images of 'fit' are held out for testing (seed 0). To test "
        "on 'dev' instead, give `data.test=dev`"
    ]
    assert parts["val"] is opened["val"]


def test_groups_stay_together():
    groups = np.repeat(np.arange(6), 5)
    parts = division.with_test({"train": Labels(np.repeat([0, 1], 15), "", groups)}, Wanted())
    assert np.bincount(parts["test"].labels()).tolist() == [5, 5]
    assert not np.intersect1d(parts["train"].groups(), parts["test"].groups()).size


def test_nothing_can_be_held_out():
    with pytest.raises(UserError, match=r"^birds has no test split, and no class has a second ima"):
        division.with_test({"train": Labels([0, 1])}, Wanted())
    with pytest.raises(UserError, match=r"^birds has no test split, and no group can be held out"):
        division.with_test({"train": Labels([0, 0, 1, 1], "", [3, 3, 4, 4])}, Wanted())
    opened = {"train": Labels([0, 1])}
    assert division.with_test(opened, Wanted(labelled=False)) == opened


def test_a_share_or_seed_that_cannot_be_used():
    for asked, message in [
        ({"test_fraction": 1.0}, "data.test_fraction: expected a share between 0 and 1, got 1.0"),
        ({"seed": -1}, "data.seed: expected at least 0, got -1"),
    ]:
        with pytest.raises(UserError, match=f"^{message}$"):
            division.with_test({"train": Labels([0, 0, 1, 1])}, Wanted(**asked))


def test_a_class_that_val_or_test_lacks():
    opened = {"train": Labels([0, 0]), "val": Labels([1, 0]), "test": Labels([1])}
    division.warn_of_absent_classes(opened)
    # That train lacks a class is said once, by `tl.results.warnings`.
    assert opened["train"].warnings == opened["val"].warnings == []
    assert opened["test"].warnings == ["test has no image of 1 of 2 classes: a"]


def test_names_of_classes():
    def names(*labels, **more):
        return division.class_names({"train": labels, **more}, lambda part, row: f"{part}[{row}]")

    assert names("b", "a", "b") == ["a", "b"]
    assert names("10", "9", "-2") == ["-2", "9", "10"]
    assert names("010", "9") == ["010", "9"]  # text: leading zeros are kept
    assert division.class_names({"test": ["b"], "val": ["a"]}, lambda part, row: "") == ["a", "b"]
    with pytest.raises(UserError, match=r"^data.train: expected two classes or more, got 'a' alon"):
        names("a", "a")
    text = r"^test\[1\]: train has no class 'catt'; .* 2 images of test .*; the nearest are 'cat'"
    with pytest.raises(UserError, match=text):
        names("cat", "dog", test=["cat", "catt", "x"])


def test_among_integers_minus_one_is_no_label():
    def names(*labels, **more):
        return division.class_names({"train": labels, **more}, lambda part, row: f"{part}[{row}]")

    assert names("1", "-1", "0", test=["1", "-1"]) == ["0", "1"]
    assert division.label_numbers(["1", "-1", "0"], ["0", "1"]).tolist() == [1, -1, 0]
    assert names("cat", "-1") == ["-1", "cat"]  # text
    assert division.label_numbers(["cat", "-1"], ["-1", "cat"]).tolist() == [1, 0]
    for labels, got in [(("1", "-1"), "'1' alone"), (("-1", "-1"), "none")]:
        with pytest.raises(UserError, match=f"or more, got {got}; -1 means no label: write a cla"):
            names(*labels)
    with pytest.raises(UserError, match=r"^test\[0\]: train has no class '-1'"):
        names("cat", "dog", test=["-1"])


def test_images_without_labels_are_counted():
    opened = {"train": Labels([0, 1, 1]), "test": Labels([0, -1, -1, 1], "holdout")}
    division.warn_of_no_labels(opened)
    assert opened["train"].warnings == []
    assert opened["test"].warnings == ["2 of 4 images of holdout have no label (-1): left out"]


class Birds:
    """A data set whose splits open as four images each."""

    where = "t.csv"

    def __init__(self, **counts):
        self._counts = counts

    def splits(self):
        return self._counts

    def open(self, named):
        return {part: Labels([0, 0, 1, 1], split) for part, split in named.items()}


def test_splits_that_are_not_used_are_named_with_their_images(caplog):
    caplog.set_level("INFO")
    there = {"train": 4, "val": 4, "holdout": 1200, "extra": None}
    train = division.open_parts(Birds(**there), Wanted())["train"]
    assert train.warnings == [
        "these splits are not used: extra, holdout (1,200 images); `data.test=NAME` tests on one "
        "of them"
    ]
    opened = division.open_parts(Birds(**there), Wanted(test="holdout"))
    assert opened["test"].split == "holdout" and opened["train"].warnings == []
    assert "birds: these splits are not used: extra" in caplog.messages
