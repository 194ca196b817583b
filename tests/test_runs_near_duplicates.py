import numpy as np
import pytest
from PIL import Image

from tests.predictions import predictions
from tl import hosts
from tl.data import splits
from tl.runs import near_duplicates
from tl.runs.parts import Division, divide_for_probe

WIDTH = 8
EYE = np.eye(WIDTH, dtype=np.float32)


class Store:
    """Features of a split, as `FeatureStore` gives them."""

    def __init__(self, name, features, endpoint="pooled"):
        self.name, self.features = name, np.array(features, np.float32)
        self.widths = {endpoint: WIDTH}

    def labels(self):
        return np.arange(len(self.features), dtype=np.int32) % 2

    def ids(self):
        return [f"{self.name}{row}" for row in range(len(self.features))]

    def read(self, endpoint, rows):
        assert endpoint in self.widths
        return self.features[rows]


class Images:
    """A split of which each image is one colour."""

    def __init__(self, first):
        self.first = first

    def __getitem__(self, row):
        return {"image": np.full((2, 2, 3), self.first + row, np.uint8)}


def image(split, row):
    return np.full((2, 2, 3), 100 * (split == "val") + row, np.uint8)


def stores(endpoint="pooled"):
    """Row 0 of test is row 7 of train in another length, and row 1 is row 5."""
    test = [2 * EYE[7], EYE[5], EYE[1] + EYE[2], EYE[3] + EYE[4]]
    return {"train": Store("train", EYE, endpoint), "test": Store("test", test, endpoint)}


def division(stores, train, val):
    """Returns the rows of a seed; val is a part of train unless it is a split of its own."""
    test = stores["test"]
    parts = {
        "train": (stores["train"], np.array(train)),
        "val": (stores.get("val", stores["train"]), np.array(val)),
        "test": (test, np.arange(len(test.features))),
    }
    return Division(parts, splits.one_fold(len(train), len(val)))


def silent(line):
    raise AssertionError(line)


def test_test_is_compared_with_train_and_val_of_all_seeds():
    opened = stores()
    first = {3: division(opened, [0, 2, 4, 6], [7, 1, 3])}
    alone = near_duplicates.compare(opened, first, predictions(), silent)
    # Val is fitted on before test, too. Row 5 of train is not in it.
    assert [pair["training_id"] for pair in alone.result["pairs"]] == ["train7"]
    both = first | {4: division(opened, [5, 2, 4, 6], [0, 1, 3])}
    found = near_duplicates.compare(opened, both, predictions(), silent)
    pairs = {pair["id"]: pair["training_id"] for pair in found.result["pairs"]}
    assert pairs == {"t0": "train7", "t1": "train5"}
    assert found.result["endpoint"] == "pooled"
    assert found.result["test"]["count"] == 2
    assert found.result["val"] == {"count": 0, "images": 3}
    assert found.training["test"]["train"].tolist() == list(range(8))
    assert found.warnings[0].startswith("2 of 4 test images are near duplicates of training ima")


def test_a_val_split_of_its_own_and_pictures(tmp_path, monkeypatch):
    opened = stores()
    opened["val"] = Store("val", [EYE[1] + EYE[2], EYE[6], EYE[0] + EYE[3]])
    opened["test"].features[1] = EYE[1] + EYE[2]  # the first of val
    seeds = {3: division(opened, range(8), range(3))}
    found = near_duplicates.compare(opened, seeds, predictions(), silent)
    pairs = {pair["id"]: pair["training_id"] for pair in found.result["pairs"]}
    assert pairs == {"t0": "train7", "t1": "val0", "t2": "val0", "v1": "train6"}
    assert found.result["pairs"][-1]["split"] == "val"
    (tmp_path / "examples").mkdir()
    images = {"train": Images(20), "val": Images(40), "test": Images(60)}
    monkeypatch.setattr(hosts, "is_first", lambda: False)
    found.save_pictures(tmp_path, images, image)
    assert not list((tmp_path / "examples").iterdir())
    monkeypatch.setattr(hosts, "is_first", lambda: True)
    found.save_pictures(tmp_path, images, image)
    colours = {}
    for pair in found.result["pairs"]:
        for key in ("file", "training_file"):
            with Image.open(tmp_path / pair[key]) as picture:
                colours[pair["id"], key] = int(np.asarray(picture)[0, 0, 0])
    assert colours == {
        ("t0", "file"): 0,
        ("t0", "training_file"): 27,
        ("t1", "file"): 1,
        ("t1", "training_file"): 40,
        ("t2", "file"): 2,
        ("t2", "training_file"): 40,
        ("v1", "file"): 101,
        ("v1", "training_file"): 26,
    }


@pytest.mark.parametrize(
    ("endpoint", "most", "reason"),
    [
        (
            "stage2",
            10**12,
            "that needs features of pooled or logits, which the field extract.endpoints stores",
        ),
        # Test: 4 rows with 7 of train and val. Val: 3 rows with 4 of train. 40 pairs of width 8.
        ("logits", 319, "3.2e+02 multiplications are more than 3e+02"),
    ],
)
def test_what_is_not_looked_for(endpoint, most, reason, monkeypatch):
    monkeypatch.setattr(near_duplicates, "MOST_PRODUCTS", most)
    opened, lines = stores(endpoint), []
    seeds = {3: division(opened, [0, 2, 4, 6], [7, 1, 3])}
    found = near_duplicates.compare(opened, seeds, predictions(), lines.append)
    assert found.result == {"not_looked_for": reason}
    assert lines == [f"near duplicates of training images were not looked for: {reason}"]
    assert (found.pairs, found.warnings) == ([], [])


def test_logits_where_there_is_nothing_else(monkeypatch):
    monkeypatch.setattr(near_duplicates, "MOST_PRODUCTS", 320)
    opened = stores("logits")
    seeds = {3: division(opened, [0, 2, 4, 6], [7, 1, 3])}
    found = near_duplicates.compare(opened, seeds, predictions(), silent)
    assert (found.result["endpoint"], found.result["test"]["count"]) == ("logits", 1)


def test_folds_are_a_part_of_train_and_not_compared():
    opened = stores()
    seeds = {3: divide_for_probe(opened, 0, 0, None, folds=2)}
    found = near_duplicates.compare(opened, seeds, predictions(), silent)
    pairs = {pair["id"]: pair["training_id"] for pair in found.result["pairs"]}
    assert pairs == {"t0": "train7", "t1": "train5"}
    assert "val" not in found.result
    assert found.warnings[0].startswith("2 of 4 test images are near duplicates")
