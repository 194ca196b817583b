import numpy as np
import pytest

from tl.errors import UserError
from tl.probes.solvers import Head, Logistic
from tl.runs import probe_grid as study

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

    def ids(self):
        return [f"id{row}" for row in range(len(self._labels))]

    def width(self, endpoint):
        return 3

    def read(self, endpoint, rows):
        self.read_rows.append((endpoint, rows))
        return self.features[rows]


def run(stores, records=None, with_headline=False, **fields):
    arguments = {
        "classes": CLASSES,
        "endpoints": ("near", "far"),
        "solvers": [Logistic((0.1, 0.01, 1.0))],
        "record": (records if records is not None else []).append,
    }
    rows = {"examples_per_class": (5,), "seeds": (0, 1), "val_fraction": 0.2}
    rows |= {"folds": fields.pop("folds", None)}
    found = study.divisions(stores, **{name: fields.pop(name, rows[name]) for name in rows})
    summary, headline = study.run(found, **{**arguments, **fields})
    return (summary, headline) if with_headline else summary


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


@pytest.mark.parametrize("val", ["carved", "own"])
def test_the_headline_is_of_the_most_examples(val):
    stores = {"train": Store(10), "test": Store(4, 1)}
    if val == "own":
        stores["val"] = Store(3, 2)
    summary, headline = run(
        stores,
        with_headline=True,
        examples_per_class=(0, 5),
        val_fraction=0.2 if val == "carved" else None,
        seeds=(7, 8),
    )
    predictions = headline.predictions(CLASSES)
    assert predictions.seeds.tolist() == [7, 8]
    assert predictions.classes.tolist() == list(CLASSES)
    # The last row of each store is a corrupt image.
    assert predictions.test_ids.tolist() == [f"id{row}" for row in range(12)]
    assert predictions.test_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert predictions.correct.mean(axis=1).tolist() == summary["test"]["top1_seeds"]
    assert len(predictions.val_ids) == summary["counts"]["val"] == (6 if val == "carved" else 9)
    labels = stores["train" if val == "carved" else "val"].labels()
    rows = [int(name.removeprefix("id")) for name in predictions.val_ids]
    assert predictions.val_labels.tolist() == labels[rows].tolist()
    assert (predictions.val_logits.argmax(axis=1) == predictions.val_labels).all()
    projection = headline.projection()
    assert projection.endpoint == headline.results[7].selected.endpoint
    assert projection.rows.tolist() == list(range(12))
    assert projection.coordinates.shape == (12, 3)


def test_intervals_are_over_the_groups_of_the_test_rows():
    names = np.array([f"p{row // 2}" for row in range(13)])  # of all rows, the corrupt one too
    records = []
    summary, headline = run(
        {"train": Store(10), "test": Store(4, 1)}, records, with_headline=True, groups=names
    )
    assert summary["test"]["groups"] == records[0]["test"]["groups"] == 6
    assert headline.predictions(CLASSES).groups.tolist() == names[:12].tolist()
    _, without = run({"train": Store(10), "test": Store(4, 1)}, with_headline=True)
    assert without.predictions(CLASSES).groups is None


def test_the_first_seeds_val_rows_are_those_kept():
    stores = {"train": Store(10), "test": Store(4, 1)}
    _, both = run(stores, with_headline=True, seeds=(0, 1))
    for seed, same in ((0, True), (1, False)):
        _, alone = run(stores, with_headline=True, seeds=(seed,))
        ours, theirs = (h.predictions(CLASSES) for h in (both, alone))
        assert (ours.val_ids.tolist() == theirs.val_ids.tolist()) == same
        assert np.array_equal(ours.val_logits, theirs.val_logits) == same


def test_too_few_examples():
    stores = {"train": Store(1), "test": Store(4, 1)}
    with pytest.raises(UserError, match="no image is left for val; give more examples"):
        run(stores, examples_per_class=(1,))


def test_folds_hold_out_every_row_of_train():
    stores = {"train": Store(10), "test": Store(4, 1)}
    summary, headline = run(stores, with_headline=True, folds=5, seeds=(4,))
    assert summary["counts"] == {"train": 15, "val": 0, "test": 12}
    assert summary["val"]["count"] == 15 and summary["val"]["folds"] == 5
    predictions = headline.predictions(CLASSES)
    rows = [int(name.removeprefix("id")) for name in predictions.val_ids]
    assert sorted(rows) == sorted(headline.division.parts["train"][1]) and len(set(rows)) == 15
    assert predictions.val_labels.tolist() == stores["train"].labels()[rows].tolist()
    found = headline.results[4].selected
    assert (predictions.val_logits.argmax(axis=1) == predictions.val_labels).mean() == (
        found.val_top1
    )
    assert headline.temperature(headline.results[4]) > 0
