import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl.results import metrics

LOGITS = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0], [1.0, 1.0, 0.0], [2.0, 0.0, 1.0]])
LABELS = np.array([0, 2, 1, 1])


@pytest.mark.parametrize(
    ("k", "expected"),
    [(1, [True, False, False, False]), (2, [True, True, True, False]), (3, [True] * 4)],
)
def test_correct_counts_ties_by_class_number(k, expected):
    assert metrics.correct(LOGITS, LABELS, k).tolist() == expected


def test_correct_agrees_with_argmax_and_top_k():
    logits = np.random.default_rng(0).integers(0, 4, (200, 7)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 7, 200)
    assert (metrics.correct(logits, labels) == (logits.argmax(1) == labels)).all()
    top = np.asarray(jax.lax.top_k(logits, 5)[1])
    assert (metrics.correct(logits, labels, 5) == (top == labels[:, None]).any(1)).all()


def test_nan_is_never_correct():
    logits = np.array([[np.nan, 0.0], [np.nan, np.nan]])
    assert not metrics.correct(logits, np.array([0, 0])).any()


def test_masked_rows_count_for_nothing():
    mask = np.array([True, True, False, False])
    labels = np.array([0, 2, -1, -1])
    assert metrics.top1(LOGITS, labels, mask) == (1, 2)
    assert metrics.top5(LOGITS, labels, mask) == (2, 2)  # three classes: all of them
    nan = LOGITS.copy()
    nan[2:] = np.nan
    total, count = metrics.cross_entropy(nan, labels, mask)
    whole, _ = metrics.cross_entropy(LOGITS[:2], labels[:2])
    assert (total, count) == (whole, 2)


def test_cross_entropy_by_hand():
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 0.0]])
    total, count = metrics.cross_entropy(logits, np.array([0, 1]))
    assert total == pytest.approx(np.log(4.0) + 1000.0)
    assert count == 2


def test_per_class_and_its_mean():
    correct = np.array([True, False, True, True, True])
    labels = np.array([0, 0, 2, 2, 3])
    mask = np.array([True, True, True, True, False])
    sums, counts = metrics.per_class(correct, labels, 4, mask)
    assert sums.tolist() == [1, 0, 2, 0]
    assert counts.tolist() == [2, 0, 2, 0]
    assert metrics.mean_per_class(sums, counts) == (0.75, 2)


def test_jit_gives_the_same():
    mask = np.array([True, False, True, True])
    for metric in (metrics.top1, metrics.top5, metrics.cross_entropy):
        inside = jax.jit(metric)(jnp.asarray(LOGITS), jnp.asarray(LABELS), jnp.asarray(mask))
        np.testing.assert_allclose(inside, metric(LOGITS, LABELS, mask), rtol=1e-6)
