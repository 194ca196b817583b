import numpy as np
import pytest

from tl.probes import rows as module
from tl.probes.heads import Classifier, Linear, by_chunk, shared_logits
from tl.probes.knn import Bank, Vote


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_a_linear_head_by_hand(rows, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 2 * rows)
    head = Linear(np.array([[1.0, 0.0], [2.0, -1.0]], np.float32), np.array([0.5, 0.0], np.float32))
    logits = head.logits(np.array([[1.0, 1.0], [0.0, 2.0], [3.0, 0.0]]))
    assert logits.tolist() == [[3.5, -1.0], [4.5, -2.0], [3.5, 0.0]]
    assert logits.dtype == np.float32


def test_no_rows_have_no_logits():
    head = Linear(np.eye(2, 3, dtype=np.float32), np.zeros(3, np.float32))
    assert head.logits(np.zeros((0, 2), np.float32)).shape == (0, 3)
    assert shared_logits(head, np.zeros((0, 2), np.float32)).shape == (0, 3)


def test_logits_come_by_chunk_and_whole(monkeypatch):
    head = Linear(np.eye(2, 3, dtype=np.float32), np.zeros(3, np.float32))
    x = np.arange(10.0, dtype=np.float32).reshape(5, 2)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 4)
    assert [len(part) for part in by_chunk(head, x)] == [2, 2, 1]
    np.testing.assert_array_equal(shared_logits(head, x), np.concatenate(list(by_chunk(head, x))))


def test_heads_of_all_solvers_are_classifiers():
    linear = Linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    assert isinstance(linear, Classifier)
    assert issubclass(Vote, Classifier)
    assert not issubclass(Bank, Classifier)
