import numpy as np
import pytest

from tl.probes import heads
from tl.probes.heads import Classifier, Linear
from tl.probes.knn import Bank, Vote


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_a_linear_head_by_hand(rows, monkeypatch):
    monkeypatch.setattr(heads, "CHUNK_ROWS", rows)
    head = Linear(np.array([[1.0, 0.0], [2.0, -1.0]], np.float32), np.array([0.5, 0.0], np.float32))
    logits = head.logits(np.array([[1.0, 1.0], [0.0, 2.0], [3.0, 0.0]]))
    assert logits.tolist() == [[3.5, -1.0], [4.5, -2.0], [3.5, 0.0]]
    assert logits.dtype == np.float32


def test_heads_of_all_solvers_are_classifiers():
    linear = Linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    assert isinstance(linear, Classifier)
    assert issubclass(Vote, Classifier)
    assert not issubclass(Bank, Classifier)
