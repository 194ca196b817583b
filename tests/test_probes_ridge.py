import numpy as np
import pytest

from tl.errors import UserError
from tl.probes import ridge


@pytest.mark.parametrize("shape", [(50, 8), (12, 40)], ids=["N>D", "N<D"])
def test_path_equals_the_normal_equations(shape):
    n, d = shape
    rng = np.random.default_rng(0)
    x = (3 + rng.normal(size=(n, d)) * np.logspace(-2, 2, d)).astype(np.float32)
    x[:, 2] = 7  # constant
    labels = rng.integers(0, 3, n)
    z = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    std = z.std(axis=0)
    std[2] = 1
    z[:, 2] = 0
    z /= std
    targets = np.eye(4)[labels]  # class 3 is absent
    centred = targets - targets.mean(axis=0)
    fits = list(ridge.fit_path(x, labels, 4, [1e-6, 1e-2, 1e3]))
    assert [fit.setting["l2"] for fit in fits] == [1e3, 1e-2, 1e-6]
    for fit in fits:
        l2 = fit.setting["l2"]
        kernel = np.linalg.solve(z.T @ z / n + l2 * np.eye(d), z.T @ centred / n)
        logits = z @ kernel + targets.mean(axis=0)
        np.testing.assert_allclose(fit.head.logits(x), logits, atol=2e-3 * np.abs(logits).max())
        objective = np.mean(np.sum((logits - targets) ** 2, axis=1)) / 2 + l2 / 2 * np.sum(
            kernel**2
        )
        assert fit.objective == pytest.approx(objective, rel=1e-6)
        np.testing.assert_allclose(fit.head.kernel * std[:, None], kernel, atol=1e-6)


def test_one_feature_by_hand():
    # z = (-1, 1), targets -+1/2: weight (1/2) / (1 + l2) = 1/4.
    (fit,) = ridge.fit_path(np.array([[1.0], [3.0]]), np.array([0, 1]), 2, [1.0])
    np.testing.assert_allclose(fit.head.kernel, [[-0.25, 0.25]])
    np.testing.assert_allclose(
        fit.head.logits(np.array([[2.0], [3.0]])), [[0.5, 0.5], [0.25, 0.75]]
    )
    assert fit.objective == pytest.approx((2 * 0.25**2) / 2 + (2 * 0.25**2) / 2)


def test_l2_must_be_positive():
    with pytest.raises(UserError, match=r"^probe.l2: expected above 0, got -1; give"):
        list(ridge.fit_path(np.eye(2), np.array([0, 1]), 2, [-1]))
