import numpy as np
import pytest

from tl import study
from tl.errors import UserError
from tl.probes.solvers import Head, Logistic

CLASSES = ("a", "b", "c")


class Store:
    """Features around a corner of their own for every class; the last row is a corrupt image."""

    def __init__(self, per_class, seed=0):
        self._labels = np.array([*np.repeat(range(3), per_class), -1], np.int32)
        noise = np.random.default_rng(seed).normal(0, 0.1, (len(self._labels), 3))
        self.features = (np.eye(3)[self._labels] + noise).astype(np.float32)
        self.read_rows = []  # (endpoint, rows); stores may share one list to show their order

    def labels(self):
        return self._labels

    def read(self, endpoint, rows):
        self.read_rows.append((endpoint, rows))
        return self.features[rows]


def run(stores, records=None, **fields):
    arguments = {
        "classes": CLASSES,
        "endpoints": ("near", "far"),
        "solvers": [Logistic((0.1, 0.01, 1.0))],
        "examples_per_class": (5,),
        "seeds": (0, 1),
        "val_fraction": 0.2,
        "record": (records if records is not None else []).append,
    }
    return study.run(stores, **{**arguments, **fields})


def test_numbers_of_examples_in_order_and_all_last():
    records = []
    stores = {"train": Store(10), "test": Store(4, 1)}
    result = run(stores, records, examples_per_class=(0, 5, 2))
    assert [(r["examples_per_class"], r["seed"]) for r in records] == [
        (k, seed) for k in (2, 5, 0) for seed in (0, 1)
    ]
    assert "grid" not in records[0]
    assert result["counts"] == {"train": 24, "val": 6, "test": 12}
    assert [(r["examples_per_class"], r["endpoint"]) for r in result["study"]] == [
        (k, e) for k in (2, 5, 0) for e in ("near", "far")
    ]
    assert result["test"]["top1"] == 1.0
    assert result["test"]["count"] == 12
    assert len(result["grid"]) == 2 * 2 * 3


def test_test_rows_are_read_after_all_others_and_corrupt_ones_never():
    stores = {"train": Store(10), "test": Store(4, 1)}
    run(stores, seeds=(0,))
    for name, last in (("train", 30), ("test", 12)):
        assert all(last not in rows for _, rows in stores[name].read_rows)
    stores["train"].read_rows = stores["test"].read_rows = order = []
    run(stores, seeds=(0,))
    test_rows = [(endpoint, list(rows)) for endpoint, rows in order[-2:]]
    assert test_rows == [("near", list(range(12))), ("far", list(range(12)))]
    assert all(len(rows) in (3, 12) and list(rows) != list(range(12)) for _, rows in order[:-2])


def test_train_and_val_are_disjoint():
    stores = {"train": Store(10), "test": Store(4, 1)}
    run(stores, seeds=(0,), endpoints=("near",))
    (_, train), (_, val), *_ = stores["train"].read_rows
    assert not set(train) & set(val)
    assert (len(train), len(val)) == (12, 3)


def test_a_val_split_of_its_own_is_taken_whole():
    stores = {"train": Store(10), "val": Store(3, 2), "test": Store(4, 1)}
    result = run(stores, val_fraction=None)
    assert result["counts"] == {"train": 15, "val": 9, "test": 12}


def test_seeds_reach_the_head():
    stores = {"train": Store(10), "test": Store(4, 1)}
    result = run(stores, solvers=[Head(epochs=1)], endpoints=("near",))
    losses = {row["seed"]: row["val_loss"] for row in result["grid"]}
    assert losses[0] != losses[1]


def test_too_few_examples():
    stores = {"train": Store(1), "test": Store(4, 1)}
    with pytest.raises(UserError, match="no image is left for val; give more examples"):
        run(stores, examples_per_class=(1,))
