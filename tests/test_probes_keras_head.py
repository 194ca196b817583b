import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl.errors import UserError
from tl.probes import keras_head as head


def problem(n=70, d=6, classes=3):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    return rng.normal(size=(classes, d))[labels] + 0.3 * rng.normal(size=(n, d)), labels


def test_one_epoch_equals_adam_by_hand():
    x, labels = problem(n=7)  # batches of 4 and 3: the last one is masked
    (fit,) = head.fit_path(x, labels, 3, epochs=1, batch_size=4, dropout=0.0, seed=5)
    key = jax.random.key(5)
    kernel = np.asarray(
        jax.nn.initializers.glorot_uniform()(jax.random.fold_in(key, 0), (6, 3)), np.float64
    )
    assert np.abs(kernel).max() <= np.sqrt(6 / (6 + 3))
    params = np.concatenate([kernel, np.zeros((1, 3))])
    m = v = np.zeros_like(params)
    epoch_key = jax.random.fold_in(key, 1)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(epoch_key, 0), 7))
    inputs, losses = np.concatenate([x, np.ones((7, 1))], axis=1), []
    for step, rows in enumerate((order[:4], order[4:]), start=1):
        logits = inputs[rows] @ params
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        losses += list(-np.log(p[np.arange(len(rows)), labels[rows]]))
        grad = inputs[rows].T @ (p - np.eye(3)[labels[rows]]) / len(rows)
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        update = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-7)
        params = params - 1e-3 * update
    np.testing.assert_allclose(fit.head.kernel, params[:-1], atol=1e-6)
    np.testing.assert_allclose(fit.head.bias, params[-1], atol=1e-6)
    assert fit.objective == pytest.approx(np.mean(losses), rel=1e-5)
    assert fit.iterations == 2


def test_it_learns_and_every_epoch_is_a_fit():
    x, labels = problem()
    fits = list(head.fit_path(x, labels, 3, epochs=6, batch_size=16, learning_rate=0.05))
    assert [fit.setting["epoch"] for fit in fits] == [1, 2, 3, 4, 5, 6]
    assert [fit.iterations for fit in fits] == [5, 10, 15, 20, 25, 30]
    assert fits[-1].objective < 0.5 * fits[0].objective
    assert np.mean(fits[-1].head.logits(x).argmax(axis=1) == labels) > 0.9


def test_seed_decides_everything():
    x, labels = problem()
    *_, a = head.fit_path(x, labels, 3, epochs=2, batch_size=16)
    *_, b = head.fit_path(x, labels, 3, epochs=2, batch_size=16)
    *_, c = head.fit_path(x, labels, 3, epochs=2, batch_size=16, seed=1)
    np.testing.assert_array_equal(a.head.kernel, b.head.kernel)
    assert not np.allclose(a.head.kernel, c.head.kernel)


def test_dropout_keeps_the_expected_input():
    # With kernel zero and inputs one, a batch's bias gradient has no dropout noise, the kernel's
    # is the mean of what was kept: its expectation is the input without dropout.
    params = {"kernel": jnp.zeros((2000, 2)), "bias": jnp.zeros(2)}
    x, labels = jnp.ones((32, 2000)), jnp.zeros(32, jnp.int32)
    opt_state = head._adam(1.0).init(params)
    _, state, loss = head._epoch(
        params,
        opt_state,
        x,
        labels,
        jax.random.key(0),
        count=32,
        learning_rate=1.0,
        dropout=0.3,
        batch_size=32,
    )
    gradient = np.asarray(state[0].mu["kernel"][:, 0]) / 0.1
    assert loss == pytest.approx(np.log(2))
    assert gradient.mean() == pytest.approx(-0.5, abs=0.005)
    assert gradient.std() == pytest.approx(0.5 * np.sqrt(0.3 / 0.7 / 32), rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, r"probe.epochs: expected at least 1, got 0"),
        ({"batch_size": -2}, r"probe.batch_size: expected at least 1, got -2"),
        ({"dropout": 1.0}, r"probe.dropout: expected a share in \[0, 1\), got 1.0"),
    ],
)
def test_a_recipe_that_trains_nothing_is_refused(options, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        next(head.fit_path(*problem(), 3, **options))
