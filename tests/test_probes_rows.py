import numpy as np
import pytest

from tl.probes import rows
from tl.probes.rows import Rows, View, chunks, joined, kept, take

X = np.arange(12.0, dtype=np.float32).reshape(6, 2)


def view(read=None):
    return View(lambda numbers: X[numbers] if read is None else read(numbers), np.arange(6), 2)


def refuse(numbers):
    raise AssertionError(f"read {numbers}")


def test_a_view_reads_what_is_indexed():
    asked = []
    some = take(
        View(lambda n: asked.append(n.tolist()) or X[n], np.array([5, 0, 3]), 2), np.array([2, 0])
    )
    assert (len(some), some.shape, asked) == (2, (2, 2), [])
    np.testing.assert_array_equal(some[:1], X[[3]])
    np.testing.assert_array_equal(some[np.array([1, 0])], X[[5, 3]])
    assert asked == [[3], [5, 3]]


def test_taking_rows_reads_nothing():
    some = Rows(view(refuse), np.arange(6)).take(slice(1, 5)).take(np.array([0, 3]))
    assert some.features.numbers.tolist() == some.labels.tolist() == [1, 4]


def test_a_slice_of_an_array_is_no_copy():
    assert np.shares_memory(take(X, slice(1, 3)), X)


def test_few_rows_are_kept_and_many_are_not(monkeypatch):
    assert isinstance(kept(view()), np.ndarray) and kept(X) is not None
    monkeypatch.setattr(rows, "_KEPT_BYTES", 4 * 12 - 1)
    assert isinstance(kept(view(refuse)), View)


def test_stores_are_joined_in_any_order():
    one, two, none = X, X + 100, X[:0]
    parts = [(one.__getitem__, np.array([4, 1])), (none.__getitem__, np.zeros(0, int))]
    parts.append((two.__getitem__, np.array([0, 0, 5])))
    whole = joined(parts, 2)
    assert whole.shape == (5, 2)
    expected = np.concatenate([one[[4, 1]], two[[0, 0, 5]]])
    np.testing.assert_array_equal(whole[:], expected)
    order = np.array([3, 0, 4, 1, 1])
    np.testing.assert_array_equal(whole[order], expected[order])
    np.testing.assert_array_equal(whole[:0], expected[:0])


@pytest.mark.parametrize(
    ("length", "width", "expected"), [(0, 3, [0]), (5, 3, [3, 2]), (2, 99, [1, 1])]
)
def test_chunks_cover_all_rows(length, width, expected, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK_ELEMENTS", 10)
    found = list(chunks(length, width))
    assert [part.stop - part.start for part in found] == expected
    assert [row for part in found for row in range(part.start, part.stop)] == list(range(length))
