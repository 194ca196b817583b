import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tl.errors import UserError
from tl.probes import device_rows, logistic, rows


def problem(n=120, d=30, classes=10, seed=0):
    """Overlapping classes with correlated features of very different scales."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    labels[:classes] = np.arange(classes)
    centres = rng.normal(size=(classes, d))
    x = (centres[labels] + 1.5 * rng.normal(size=(n, d))) @ rng.normal(size=(d, d))
    return (5 + x * np.logspace(-2, 2, d)).astype(np.float32), labels


def standardised(x):
    x = x.astype(np.float64)
    std = x.std(axis=0)
    std[np.ptp(x, axis=0) == 0] = 1
    return (x - x.mean(axis=0)) / std, x.mean(axis=0), std


def objective(z, labels, kernel, bias, l2):
    """The objective in float64; `kernel` and `bias` act on standardised features."""
    logits = z @ kernel + bias
    top = logits.max(axis=1, keepdims=True)
    log_total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    own = logits[np.arange(len(labels)), labels]
    return np.mean(log_total - own) + l2 / 2 * np.sum(kernel**2)


def reference(z, labels, classes, l2):
    """scikit-learn's solution as kernel [D, C] and bias [C]; absent classes get -inf."""
    two = len(np.unique(labels)) == 2
    peer = LogisticRegression(
        C=(2 if two else 1) / (len(z) * l2), solver="newton-cg", tol=1e-9, max_iter=10_000
    ).fit(z, labels)
    kernel, bias = np.zeros((z.shape[1], classes)), np.full(classes, -np.inf)
    coef, intercept = peer.coef_, peer.intercept_
    if two:  # one weight vector, the difference of our two
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.array([-1, 1]) * intercept / 2
    kernel[:, peer.classes_], bias[peer.classes_] = coef.T, intercept
    return kernel, bias


def assert_equals_sklearn(fit, x, labels, classes, others=None):
    z, mean, std = standardised(x)
    l2 = fit.setting["l2"]
    kernel, bias = reference(z, labels, classes, l2)
    theirs = objective(z, labels, kernel, bias, l2)
    ours_kernel = fit.head.kernel.astype(np.float64)
    ours = objective(z, labels, ours_kernel * std[:, None], fit.head.bias + mean @ ours_kernel, l2)
    assert fit.converged
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert fit.objective == pytest.approx(theirs, rel=1e-5)
    others = x if others is None else others
    expected = ((others - mean) / std @ kernel + bias).argmax(axis=1)
    assert np.mean(fit.head.logits(others).argmax(axis=1) == expected) >= 0.999


@pytest.mark.parametrize("shape", [(120, 30), (40, 90)], ids=["N>D", "N<D"])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_path_equals_sklearn(shape, classes):
    x, labels = problem(*shape, classes)
    for fit in logistic.fit_path(x, labels, classes, [1e-6, 1e-4, 1e-2, 1.0, 1e2]):
        assert_equals_sklearn(fit, x, labels, classes)


@pytest.mark.parametrize("l2", [1e-6, 1e-3, 1e2])
def test_one_value_alone_equals_sklearn_on_digits(l2):
    x, labels = load_digits(return_X_y=True)  # has constant features
    (fit,) = logistic.fit_path(x[:250].astype(np.float32), labels[:250], 10, [l2])
    assert_equals_sklearn(fit, x[:250].astype(np.float32), labels[:250], 10, x)


def test_unbalanced_and_absent_classes():
    x, labels = problem(200, 20, 10)
    kept = (labels == 3) | (labels == 7) | (np.cumsum(labels == 5) == 1) & (labels == 5)
    x, labels = x[kept], labels[kept]
    assert sorted(set(labels)) == [3, 5, 7]
    for fit in logistic.fit_path(x, labels, 10, [1e-5, 1e-1]):
        assert_equals_sklearn(fit, x, labels, 10)
        logits = fit.head.logits(x)
        assert np.isfinite(logits).all()
        assert set(logits.argmax(axis=1)) <= {3, 5, 7}


def test_constant_and_repeated_features_change_nothing():
    x, labels = problem(80, 10, 3)
    constant = np.full((80, 2), 0.1, np.float32)
    (plain,) = logistic.fit_path(x, labels, 3, [1e-2])
    (with_constant,) = logistic.fit_path(np.hstack([constant, x]), labels, 3, [1e-2])
    assert with_constant.objective == pytest.approx(plain.objective, rel=1e-6)
    assert (with_constant.head.kernel[:2] == 0).all()
    # Two copies share one weight, so their penalty is halved.
    (twice,) = logistic.fit_path(np.hstack([x, x]), labels, 3, [2e-2])
    assert twice.objective == pytest.approx(plain.objective, rel=1e-5)


def test_only_constant_features_give_the_prior():
    labels = np.array([0, 0, 0, 1])
    (fit,) = logistic.fit_path(np.ones((4, 3), np.float32), labels, 2, [1e-3])
    logits = fit.head.logits(np.ones((1, 3)))[0]
    assert logits[0] - logits[1] == pytest.approx(np.log(3), rel=1e-3)


def test_path_is_descending_unique_and_independent_of_the_grid():
    x, labels = problem(100, 12, 3)
    wild = [1e-6, 3e-2, 2.9e-2, 1e-6, 1e4]
    fits = list(logistic.fit_path(x, labels, 3, wild))
    assert [fit.setting["l2"] for fit in fits] == [1e4, 3e-2, 2.9e-2, 1e-6]
    for fit in fits:
        assert_equals_sklearn(fit, x, labels, 3)


def test_padding_changes_nothing(monkeypatch):
    x, labels = problem(70, 9, 3)
    padded = list(logistic.fit_path(x, labels, 3, [1.0, 1e-3]))
    monkeypatch.setattr(logistic, "bucket", lambda size: size)
    monkeypatch.setattr(device_rows, "bucket", lambda size: size)
    exact = list(logistic.fit_path(x, labels, 3, [1.0, 1e-3]))
    for a, b in zip(padded, exact):
        np.testing.assert_allclose(a.head.logits(x), b.head.logits(x), atol=2e-3)


def test_study_shares_one_program():
    x, labels = problem(64, 40, 3)
    list(logistic.fit_path(x[:50], labels[:50], 3, [1.0]))
    programs = logistic._minimise._cache_size()
    for n, d in ((50, 12), (60, 40), (64, 7)):
        list(logistic.fit_path(x[:n, :d], labels[:n], 3, [10.0, 1e-2], tolerance=1e-6))
    assert logistic._minimise._cache_size() == programs


def test_unconverged_fit_says_so():
    x, labels = problem()
    *_, last = logistic.fit_path(x, labels, 10, [1e-6], max_iterations=2)
    assert not last.converged
    assert last.iterations == 2


@pytest.mark.parametrize(
    ("l2s", "labels", "value", "match"),
    [
        ([1.0, 0.0], [0, 1, 0], 1.0, "^probe.l2: expected above 0, got 0.0; give a small one"),
        ([1.0], [2, 2, 2], 1.0, r"at least two classes, got only class \[2\]"),
        ([1.0], [0, 1, 0], np.nan, "1 of 2 columns hold NaN or infinity, the first is column 1"),
    ],
)
def test_mistakes_are_named(l2s, labels, value, match):
    x = np.array([[0.0, 1.0], [1.0, value], [2.0, 3.0]], np.float32)
    with pytest.raises(UserError, match=match):
        list(logistic.fit_path(x, np.array(labels), 3, l2s))


@pytest.fixture
def divided(monkeypatch):
    """Divides small problems as if they were large, into several chunks of each of 8 devices."""
    monkeypatch.setattr(device_rows, "_FEW", 0)
    monkeypatch.setattr(device_rows, "_CPU_CHUNK_ELEMENTS", 1 << 12)
    monkeypatch.setattr(device_rows, "_LEAST_ROWS", 1)
    monkeypatch.setattr(device_rows, "CHUNK_ELEMENTS", 1 << 12)
    monkeypatch.setattr(logistic, "_MANY", 0)
    monkeypatch.setattr(rows, "CHUNK_ELEMENTS", 700)


@pytest.mark.parametrize("shape", [(1500, 30), (40, 90)], ids=["N>D", "N<D"])
def test_devices_and_chunks_change_nothing(shape, divided):
    x, labels = problem(*shape, 4)
    for fit in logistic.fit_path(x, labels, 4, [1e-4, 1e-2, 1.0]):
        assert_equals_sklearn(fit, x, labels, 4)


def test_rows_on_disk_equal_rows_in_memory(divided):
    x, labels = problem(900, 20, 4)
    on_disk = rows.View(lambda numbers: x[numbers], np.arange(900), 20)
    for a, b in zip(*(logistic.fit_path(of, labels, 4, [1e-3, 1.0]) for of in (x, on_disk))):
        np.testing.assert_array_equal(a.head.kernel, b.head.kernel)
        assert a.objective == b.objective


def test_an_iteration_evaluates_about_once():
    x, labels = problem(400, 20, 4)
    evaluations = 0

    def count():
        nonlocal evaluations
        evaluations += 1

    def sums(*arguments):
        jax.debug.callback(count)
        return plain(*arguments)

    plain = logistic._sums
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logistic, "_sums", sums)
        jax.clear_caches()
        (fit,) = logistic.fit_path(x, labels, 4, [1e3])  # two strengths above it are stepped on
    jax.clear_caches()
    assert fit.iterations + 1 <= evaluations
    assert evaluations <= 3 + 1.5 * fit.iterations, (evaluations, fit.iterations)
