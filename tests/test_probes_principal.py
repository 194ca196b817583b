import numpy as np
import pytest

from tl.errors import UserError
from tl.probes import rows
from tl.probes.principal import moments
from tl.probes.principal import principal_axes as decomposed


def features(n, d):
    """Correlated features of very different scales; the last one is constant."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.logspace(-2, 2, d) + 5
    x[:, -1] = 7
    return x.astype(np.float32)


def principal_axes(x):
    return decomposed(x, moments(x, np.zeros(len(x), int), 1))


def test_two_features_by_hand():
    # Standardised, both rows are +-(1, 1): one axis (1, 1) / sqrt(2), coordinates -+sqrt(2).
    basis = principal_axes(np.array([[1.0, 10.0], [3.0, 30.0]]))
    assert (basis.mean.tolist(), basis.scale.tolist()) == ([2.0, 20.0], [1.0, 10.0])
    np.testing.assert_allclose(np.abs(basis.axes), [[0.5**0.5], [0.5**0.5]])
    np.testing.assert_allclose(basis.variance, [2.0])


@pytest.mark.parametrize("elements", [7, 1 << 24])
@pytest.mark.parametrize("shape", [(50, 6), (6, 50)], ids=["N>D", "N<D"])
def test_coordinates_have_the_second_moments_they_promise(shape, elements, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK_ELEMENTS", elements)
    x = features(*shape)
    basis = principal_axes(x)
    rank = min(shape[0] - 1, shape[1] - 1)  # the mean takes one, the constant feature another
    assert basis.axes.shape == (shape[1], rank)
    np.testing.assert_allclose(basis.axes.T @ basis.axes, np.eye(rank), atol=1e-9)
    coordinates = basis.coordinates(x)
    moments = coordinates.T @ coordinates / len(x)
    np.testing.assert_allclose(moments, np.diag(basis.variance), atol=1e-4)
    assert basis.scale[-1] == 1 and not basis.axes[-1].any()  # the constant feature
    # All of the standardised features lies along the axes.
    z = (x - basis.mean) / basis.scale
    np.testing.assert_allclose(z @ basis.axes @ basis.axes.T, z, atol=1e-6)


def test_a_head_on_coordinates_is_one_on_features():
    x = features(40, 5)
    basis = principal_axes(x)
    rng = np.random.default_rng(1)
    weights, bias = rng.normal(size=(len(basis.variance), 3)), rng.normal(size=3)
    coordinates = basis.coordinates(x)
    expected = coordinates @ weights + bias
    np.testing.assert_allclose(basis.head(weights, bias).logits(x), expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(30, 4), (4, 30)], ids=["N>D", "N<D"])
def test_sums_of_each_class_are_of_standardised_features(shape, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK_ELEMENTS", 13)
    x, labels = features(*shape), np.array([2, 0, 2, 5] * (shape[0] // 4) + [2] * (shape[0] % 4))
    found = moments(x, labels, 7)
    z = (x - x.mean(axis=0, dtype=np.float64)) / np.where(np.ptp(x, 0) > 0, x.std(0, np.float64), 1)
    expected = np.array([z[labels == c].sum(axis=0) for c in range(7)])
    np.testing.assert_allclose(found.class_sums, expected, atol=1e-6)
    if found.gram is not None:
        np.testing.assert_allclose(found.gram, z.T @ z, atol=1e-6)


def test_far_means_cost_no_digits_and_later_rows_may_be_far_from_the_first():
    x = np.random.default_rng(0).normal(size=(5000, 2)) * 1e-3 + [1e4, -1e4]
    x[2000:] += 7
    found = moments(x, np.zeros(5000, int), 1)
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.scale, x.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_counted(value):
    x = features(9, 4)
    x[3, 1] = x[5, 2] = value
    with pytest.raises(
        UserError,
        match=r"2 of 4 columns hold NaN or infinity, the first .*; .*`extract\.dtype=float32`",
    ):
        principal_axes(x)
