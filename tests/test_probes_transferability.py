import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.covariance import LedoitWolf

from tl.errors import UserError
from tl.probes.transferability import h_score, logme

SHAPES = pytest.mark.parametrize("shape", [(60, 5), (20, 40)], ids=["N>D", "N<D"])


def problem(n, d, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    return rng.normal(size=(n, d)) + rng.normal(size=(classes, d))[labels], labels


@SHAPES
def test_logme_is_the_maximum_of_the_evidence(shape):
    features, labels = problem(*shape)
    n = len(features)

    def maximum(target):
        # Marginally y ~ N(0, I / b + F F^T / a).
        def loss(logs):
            a, b = np.exp(np.clip(logs, -20, 20))
            covariance = np.eye(n) / b + features @ features.T / a
            return -stats.multivariate_normal(np.zeros(n), covariance).logpdf(target)

        starts = [(a, b) for a in (0.0, 4.0) for b in (0.0, 4.0)]
        return -min(optimize.minimize(loss, s, method="Nelder-Mead").fun for s in starts)

    expected = np.mean([maximum(np.float64(labels == label)) / n for label in range(3)])
    assert logme(features, labels) == pytest.approx(expected, abs=1e-6)


def test_logme_of_one_feature_by_hand():
    # Both classes have a row with the feature and one without, so w = 0: all of y is noise with
    # b = 4 / |y|^2 = 2. The maximum lies at a = infinity, which is approached from below.
    features, labels = np.array([[0.5], [-0.5], [0.5], [-0.5]]), np.array([0, 0, 1, 1])
    nothing = (4 * np.log(2 / (2 * np.pi)) - 4) / 8
    assert nothing - 2e-3 < logme(features, labels) < nothing
    # A feature that is one class's label leaves that class no noise, but for rounding.
    assert logme(np.array([[1.0], [1.0], [0.0], [0.0]]), labels) > 1


@SHAPES
@pytest.mark.parametrize("score", [logme, h_score])
def test_rotation_changes_nothing_and_shuffled_labels_score_less(score, shape):
    features, labels = problem(*shape)
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(shape[1], shape[1])))[0]
    assert score(features @ rotation, labels) == pytest.approx(score(features, labels), rel=1e-6)
    for _ in range(3):
        assert score(features, rng.permutation(labels)) < score(features, labels)


@SHAPES
def test_h_score_is_the_trace_of_its_definition(shape):
    features, labels = problem(*shape)
    fitted = LedoitWolf().fit(features)
    centred = features - features.mean(axis=0)
    means = np.stack([centred[labels == label].mean(axis=0) for label in labels])
    between = (1 - fitted.shrinkage_) * means.T @ means / len(features)
    expected = np.trace(np.linalg.solve(fitted.covariance_, between))
    assert h_score(features, labels) == pytest.approx(expected, rel=1e-9)


def test_h_score_of_one_feature_is_the_explained_variance():
    # One feature is never shrunk. Values 0, 2 | 4, 6: class means 1 and 5, variance 5, between 4.
    features = np.array([[0.0], [2.0], [4.0], [6.0]])
    assert h_score(features, np.array([0, 0, 1, 1])) == pytest.approx(4 / 5)
    assert h_score(np.ones((4, 2)), np.array([0, 0, 1, 1])) == 0.0


def test_labels_may_leave_numbers_out():
    features, labels = problem(30, 4)
    for score in (logme, h_score):
        assert score(features, labels * 7) == score(features, labels)


@pytest.mark.parametrize("score", [logme, h_score])
def test_mistakes(score):
    with pytest.raises(UserError, match=r"at least two classes, got only \[3\]"):
        score(np.eye(2), np.array([3, 3]))
    with pytest.raises(UserError, match=r"finite features; .*`extract.dtype=float32`"):
        score(np.array([[np.nan], [1.0]]), np.array([0, 1]))
