import numpy as np
import pytest

from tl.results import confusion

LABELS = np.array([0, 0, 0, 0, 1, 1, 3], np.int32)
PREDICTED = np.array([0, 0, 1, 2, 1, 0, 3], np.int32)
MATRIX = np.array([[2, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])


def test_a_row_is_a_true_class():
    found = confusion.confusion(LABELS, PREDICTED, 4)
    assert found.tolist() == MATRIX.tolist()
    assert found.dtype == np.int64


def test_pairs_of_many_classes_do_not_overflow():
    labels = np.array([299, 299], np.int16)  # 299 * 300 is more than an int16 holds
    found = confusion.confusion(labels, labels, 300)
    assert found[299, 299] == 2
    assert found.sum() == 2


def test_normalised_by_hand():
    expected = [[0.5, 0.25, 0.25, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(confusion.normalised(MATRIX), expected)


def test_per_class_by_hand():
    assert confusion.per_class(LABELS, PREDICTED, 4) == [
        {
            "class": 0, "count": 4, "recall": 0.5, "precision": pytest.approx(2 / 3),
            "f1": pytest.approx(4 / 7), "most_confused": 1, "most_confused_count": 1,
        },
        {
            "class": 1, "count": 2, "recall": 0.5, "precision": 0.5, "f1": 0.5,
            "most_confused": 0, "most_confused_count": 1,
        },
        {
            "class": 2, "count": 0, "recall": None, "precision": 0.0, "f1": 0.0,
            "most_confused": None, "most_confused_count": 0,
        },
        {
            "class": 3, "count": 1, "recall": 1.0, "precision": 1.0, "f1": 1.0,
            "most_confused": None, "most_confused_count": 0,
        },
    ]  # fmt: skip


def test_a_class_never_seen_nor_predicted_has_no_score():
    zeros = np.zeros(1, int)
    (_, row) = confusion.per_class(zeros, zeros, 2)
    assert (row["recall"], row["precision"], row["f1"]) == (None, None, None)
    (row, _) = confusion.per_class(np.zeros(2, int), np.ones(2, int), 2)
    assert (row["recall"], row["precision"], row["f1"]) == (0.0, None, 0.0)


def test_few_classes_stay_in_order():
    assert confusion.order(MATRIX).tolist() == [0, 1, 2, 3]


def test_classes_taken_for_each_other_come_together():
    # 20 classes in ten pairs (i, i + 10), one of which is absent.
    matrix = 10 * np.eye(20, dtype=int)
    for i in range(10):
        matrix[i, i + 10] = matrix[i + 10, i] = 3 + i
    matrix[4] = 0
    found = confusion.order(matrix)
    assert sorted(found.tolist()) == list(range(20))
    place = np.argsort(found)
    for i in range(10):
        assert abs(place[i] - place[i + 10]) == 1


def test_nothing_confused_is_an_order_too():
    assert sorted(confusion.order(np.eye(15, dtype=int)).tolist()) == list(range(15))
    assert sorted(confusion.order(np.zeros((15, 15), int)).tolist()) == list(range(15))
