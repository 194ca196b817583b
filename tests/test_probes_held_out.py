import json

import numpy as np
import pytest

from tl.errors import UserError
from tl.probes.heads import Linear
from tl.probes.held_out import HeldOut, score_logits
from tl.results.intervals import accuracy_interval


def test_test_rows_are_scored_once():
    held_out = HeldOut(lambda endpoint: np.zeros((2, 3)), np.array([0, 1]), 2)
    head = Linear(np.zeros((3, 2), np.float32), np.zeros(2, np.float32))
    assert held_out.score({"a": head, "b": head})["b"].top1 == 0.5
    with pytest.raises(UserError, match="test rows were already scored"):
        held_out.score({"a": head})


def test_a_score_by_hand():
    # Highest: 0, 1, 2, 2. Class 3 has no row.
    logits = np.array([[9.0, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0], [0, 1, 9, 0]])
    score = score_logits(logits, np.array([0, 1, 2, 1]), 4)
    assert score.correct.tolist() == [1, 1, 1, 0]
    assert (score.top1, score.top5, score.count) == (0.75, None, 4)
    assert score.mean_per_class == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert score.absent_classes == 1
    low, high = score.top1_ci95
    assert 0 <= low < 0.75 < high <= 1


def test_top5_by_hand_from_six_classes_on():
    logits = np.tile(np.arange(6.0), (3, 1))  # class 0 is the lowest
    assert score_logits(logits, np.array([0, 1, 5]), 6).top5 == pytest.approx(2 / 3)
    assert score_logits(logits[:, 1:], np.array([0, 1, 4]), 5).top5 is None


def test_json_has_everything_but_single_rows():
    row = score_logits(np.eye(3), np.arange(3), 3).as_dict()
    assert json.loads(json.dumps(row)) == row
    assert set(row) == {
        "top1", "top5", "top1_ci95", "mean_per_class", "absent_classes", "count"
    }  # fmt: skip


def test_the_selected_alone_keeps_its_logits():
    held_out = HeldOut(lambda endpoint: np.eye(2), np.array([0, 1]), 2)
    heads = {
        name: Linear(sign * np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
        for name, sign in (("a", 1), ("b", -1))
    }
    scores = held_out.score(heads, selected="b")
    assert (scores["a"].top1, scores["b"].top1) == (1.0, 0.0)
    assert scores["a"].logits is None
    np.testing.assert_array_equal(scores["b"].logits, -np.eye(2))


def test_the_interval_is_over_groups():
    labels = np.zeros(300, int)
    logits = np.repeat(np.eye(2)[[0] * 7 + [1] * 3], 30, axis=0)  # ten groups, seven all right
    groups = np.repeat(np.arange(10), 30)
    score = score_logits(logits, labels, 2, groups)
    assert score.top1_ci95 == accuracy_interval(logits[:, 0], groups=groups)
    assert score.as_dict()["groups"] == 10
    head = Linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    held_out = HeldOut(lambda endpoint: logits, labels, 2, groups)
    assert held_out.score({"a": head})["a"].top1_ci95 == score.top1_ci95
