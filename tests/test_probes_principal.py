import numpy as np
import pytest

from tl.errors import UserError
from tl.probes import principal
from tl.probes.principal import principal_axes


def features(n, d):
    """Correlated features of very different scales; the last one is constant."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.logspace(-2, 2, d) + 5
    x[:, -1] = 7
    return x.astype(np.float32)


def test_two_features_by_hand():
    # Standardised, both rows are +-(1, 1): one axis (1, 1) / sqrt(2), coordinates -+sqrt(2).
    basis = principal_axes(np.array([[1.0, 10.0], [3.0, 30.0]]))
    assert (basis.mean.tolist(), basis.scale.tolist()) == ([2.0, 20.0], [1.0, 10.0])
    np.testing.assert_allclose(np.abs(basis.axes), [[0.5**0.5], [0.5**0.5]])
    np.testing.assert_allclose(basis.variance, [2.0])


@pytest.mark.parametrize("elements", [7, 1 << 24])
@pytest.mark.parametrize("shape", [(50, 6), (6, 50)], ids=["N>D", "N<D"])
def test_coordinates_have_the_second_moments_they_promise(shape, elements, monkeypatch):
    monkeypatch.setattr(principal, "_CHUNK_ELEMENTS", elements)
    x = features(*shape)
    basis = principal_axes(x)
    rank = min(shape[0] - 1, shape[1] - 1)  # the mean takes one, the constant feature another
    assert basis.axes.shape == (shape[1], rank)
    np.testing.assert_allclose(basis.axes.T @ basis.axes, np.eye(rank), atol=1e-9)
    coordinates = np.zeros((len(x), rank), np.float32)
    basis.coordinates(x, out=coordinates)
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
    coordinates = np.zeros((len(x), len(weights)), np.float32)
    basis.coordinates(x, out=coordinates)
    expected = coordinates @ weights + bias
    np.testing.assert_allclose(basis.head(weights, bias).logits(x), expected, atol=1e-3)


def test_correlation_is_the_mean_of_coordinate_times_target():
    x, targets = features(30, 4), np.random.default_rng(2).normal(size=(30, 2))
    basis = principal_axes(x)
    coordinates = np.zeros((len(x), len(basis.variance)), np.float32)
    basis.coordinates(x, out=coordinates)
    np.testing.assert_allclose(
        basis.correlation(x, targets), coordinates.T @ targets / len(x), atol=1e-5
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_counted(value):
    x = features(9, 4)
    x[3, 1] = x[5, 2] = value
    with pytest.raises(
        UserError,
        match=r"2 of 4 columns hold NaN or infinity, the first .*; .*`extract\.dtype=float32`",
    ):
        principal_axes(x)
