import numpy as np
import pytest

from tests.predictions import predictions
from tl.results import near_duplicates
from tl.results.near_duplicates import Nearest, Pair, first_pairs, nearest

# Their mean is (0, 0): the centred directions are east, north, west, south.
CROSS = np.array([[5.0, 0], [0, 3], [-5, 0], [0, -3]], np.float32)


def test_the_nearest_row_by_cosine():
    found = nearest(np.array([[4.0, 3.0], [0.0, -7.0]]), CROSS)
    assert found.cosines == pytest.approx([0.8, 1.0])
    assert found.rows.tolist() == [0, 3]
    # 0.8 is below 0.9. The second is the fourth row in another length.
    assert found.near.tolist() == [False, True]


def test_the_mean_of_the_training_rows_is_subtracted():
    away = np.array([100, 1000], np.float32)
    found = nearest(np.array([[4.0, 3.0], [0.0, -7.0]]) + away, CROSS + away)
    assert found.cosines == pytest.approx([0.8, 1.0], abs=1e-5)
    assert found.near.tolist() == [False, True]


def around(*degrees):
    """Returns directions in the plane and their opposites, so that the mean is 0."""
    angles = np.deg2rad([*degrees, *(180 + d for d in degrees)])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize(
    ("first", "third", "near"),
    [
        (25, 60, True),  # cosine 0.906
        (27, 60, False),  # cosine 0.891
        # Between rows of length 1 at an angle a the distance is 2 sin(a / 2): 0.4312 at 24.9
        # degrees. The third nearest must be at least 0.4312 / 0.6 = 0.7187 away: at 42.13 degrees.
        (24.9, 42.2, True),
        (24.9, 42.0, False),
    ],
)
def test_both_conditions(first, third, near):
    found = nearest(np.array([[1.0, 0.0]]), around(-first, first, third))
    assert found.cosines == pytest.approx([np.cos(np.deg2rad(first))], abs=1e-6)
    assert found.near.tolist() == [near]


def test_equal_features_are_near_however_many_there_are():
    training = np.concatenate([CROSS] * 3)
    found = nearest(CROSS[1:2], training)
    assert (found.rows.tolist(), found.near.tolist()) == ([1], [True])


def test_few_training_rows():
    # One row is the mean: no direction is left.
    found = nearest(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]))
    assert (found.cosines.tolist(), found.near.tolist()) == ([0.0], [False])
    # Of two rows there is no third nearest.
    found = nearest(np.array([[1.0, 0.1]]), np.array([[1.0, 0.0], [-1.0, 0.0]]))
    assert (found.rows.tolist(), found.near.tolist()) == ([0], [True])


def test_blocks_do_not_change_what_is_found(monkeypatch):
    rng = np.random.default_rng(0)
    training, features = rng.normal(size=(7, 5)), rng.normal(size=(11, 5))
    whole = nearest(features, training)
    monkeypatch.setattr(near_duplicates, "_AT_ONCE", 21)  # three rows of features
    for ours, theirs in zip(nearest(features, training), whole):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    centred = training - training.mean(axis=0)
    cosines = (features - training.mean(axis=0)) @ centred.T
    cosines /= np.linalg.norm(centred, axis=1)
    assert whole.rows.tolist() == cosines.argmax(axis=1).tolist()


def of(cosines, near):
    return Nearest(np.array(cosines, np.float32), np.arange(len(cosines)) + 10, np.array(near))


def found(test_near=(True, False, True, False), val_near=(True, False, False)):
    return {
        "test": of([0.95, 0.5, 0.99, 0.2], list(test_near)),
        "val": of([0.97, 0.5, 0.5], list(val_near)),
    }


def test_pairs_of_test_come_first_then_the_most_similar(monkeypatch):
    pairs = first_pairs(found())
    assert [(p.split, p.row, p.training_row) for p in pairs] == [
        ("test", 2, 12),
        ("test", 0, 10),
        ("val", 0, 10),
    ]
    assert [p.cosine for p in pairs] == pytest.approx([0.99, 0.95, 0.97])
    monkeypatch.setattr(near_duplicates, "MOST_PAIRS", 1)
    assert first_pairs(found()) == pairs[:1]


def test_the_accuracy_without_them():
    # Rows 1 and 3 are left: seeds have right 0 and 1 (row 1), 1 and 0 (row 3).
    summary = near_duplicates.summary(found(), predictions())
    assert summary["test"]["top1_without"] == 0.5
    assert (summary["test"]["count"], summary["test"]["images"]) == (2, 4)
    assert summary["val"] == {"count": 1, "images": 3}
    # Both rows have the same mean over the seeds: Wilson's interval of 1 of 2.
    assert summary["test"]["top1_without_ci95"] == pytest.approx([0.0945, 0.9055], abs=1e-4)
    assert near_duplicates.warnings(summary) == [
        "2 of 4 test images are near duplicates of training images: cosine >= 0.90; test top-1 on "
        "the other 2 is 50.0 % (95 % interval 9.5-90.5)",
        "1 of 3 val images is a near duplicate of training images: cosine >= 0.90",
    ]


def test_groups_that_are_left():
    p = predictions(test_groups=["x", "y", "z", "y"])
    summary = near_duplicates.summary(found(), p)
    # One group is left, right in half of its images and seeds: Wilson's of 0 of 1 (round(0.5)).
    assert summary["test"]["top1_without_ci95"] == pytest.approx([0.0, 0.7935], abs=1e-4)


def test_nothing_left_and_nothing_found():
    summary = near_duplicates.summary(found([True] * 4, [False] * 3), predictions())
    assert summary["test"]["top1_without"] is summary["test"]["top1_without_ci95"] is None
    assert near_duplicates.warnings(summary) == [
        "4 of 4 test images are near duplicates of training images: cosine >= 0.90; no other test "
        "image is left"
    ]
    assert (
        near_duplicates.warnings(
            near_duplicates.summary(found([False] * 4, [False] * 3), predictions())
        )
        == []
    )


def test_names_labels_and_files():
    pairs = [Pair("test", 3, 1, 0.95), Pair("val", 1, 0, 0.93)]
    training = {
        "test": (np.array(["a", "b"]), np.array([0, 1])),
        "val": (np.array(["c"]), np.array([0])),
    }
    assert near_duplicates.describe(pairs, predictions(), training) == [
        {
            "cosine": 0.95,
            "split": "test",
            "id": "long/t3",
            "label": "ä",
            "file": "examples/near-test-3.png",
            "training_id": "b",
            "training_label": "b",
            "training_file": "examples/near-test-3-training.png",
        },
        {
            "cosine": 0.93,
            "split": "val",
            "id": "v1",
            "label": "b",
            "file": "examples/near-val-1.png",
            "training_id": "c",
            "training_label": "ä",
            "training_file": "examples/near-val-1-training.png",
        },
    ]
