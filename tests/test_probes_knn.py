import numpy as np
import pytest

from tl.errors import UserError
from tl.probes import device_rows, knn, rows


def test_votes_by_hand():
    # Similarities with (1, 0): 1, 0.6, 0; lengths do not matter.
    bank = np.array([[2.0, 0.0], [0.6, 0.8], [0.0, 9.0]])
    fits = {
        (fit.setting["k"], fit.setting["temperature"]): fit.head
        for fit in knn.fit_path(bank, np.array([1, 0, 0]), 3, ks=(1, 2, 3, 50), temperatures=(0.5,))
    }
    query = np.array([[5.0, 0.0]])
    weights = np.exp(np.array([1.0, 0.6, 0.0]) / 0.5)
    for k, votes in {
        1: [0, weights[0], 0],
        2: [weights[1], weights[0], 0],
        3: [weights[1] + weights[2], weights[0], 0],
        50: [weights[1] + weights[2], weights[0], 0],
    }.items():
        shares = np.array(votes) / np.sum(votes)
        np.testing.assert_allclose(fits[k, 0.5].logits(query), [np.log(shares + 1e-6)], rtol=1e-4)


@pytest.mark.parametrize(("elements", "queries_at_once"), [(1, 3), (100, 4), (1 << 20, 1024)])
def test_one_chunked_pass_gives_every_head(monkeypatch, elements, queries_at_once):
    rng = np.random.default_rng(0)
    x, queries, labels = rng.normal(size=(37, 5)), rng.normal(size=(11, 5)), rng.integers(0, 4, 37)
    fits = list(knn.fit_path(x, labels, 4, (1, 7), (0.07, 1.0)))
    alone = [fit.head.logits(queries) for fit in fits]
    monkeypatch.setattr(knn, "_QUERIES", queries_at_once)
    monkeypatch.setattr(rows, "CHUNK_ELEMENTS", 20)
    monkeypatch.setattr(device_rows, "_CPU_CHUNK_ELEMENTS", elements)
    monkeypatch.setattr(device_rows, "_LEAST_ROWS", 1)
    again = list(knn.fit_path(x, labels, 4, (1, 7), (0.07, 1.0)))
    for a, chunks in zip(alone, knn.path_logits(again, queries), strict=True):
        np.testing.assert_allclose(a, np.concatenate(list(chunks)), rtol=1e-5)


def test_equals_sklearn():
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    x, labels, queries = rng.normal(size=(90, 6)), rng.integers(0, 3, 90), rng.normal(size=(40, 6))
    peer = KNeighborsClassifier(9, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    expected = peer.fit(x, labels).predict_proba(queries)
    (fit,) = knn.fit_path(x, labels, 3, (9,))
    np.testing.assert_allclose(np.exp(fit.head.logits(queries)), expected, atol=1e-4)


def test_low_temperature_and_zero_vectors_are_finite():
    (fit,) = knn.fit_path(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), 2, (2,), (1e-4,))
    logits = fit.head.logits(np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert np.isfinite(logits).all()
    assert logits[0].argmax() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ks": (5, 0)}, "probe.k: expected at least 1, got 0"),
        ({"temperatures": (0.1, -0.5)}, "probe.temperature: expected above 0, got -0.5"),
    ],
)
def test_settings_without_a_vote_are_refused(options, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        list(knn.fit_path(np.eye(2), np.array([0, 1]), 2, **options))
