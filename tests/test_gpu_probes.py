"""Every probe on whatever accelerator there is, beside scikit-learn and NumPy."""

import jax
import pytest

from tests import test_probes_keras_head, test_probes_knn, test_probes_logistic, test_probes_ridge

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("shape", [(120, 30), (40, 90)], ids=["N>D", "N<D"])
def test_logistic_regression_over_a_path(shape):
    test_probes_logistic.test_path_equals_sklearn(shape, 10)


def test_logistic_regression_on_digits():
    test_probes_logistic.test_one_value_alone_equals_sklearn_on_digits(1e-3)


@pytest.mark.parametrize("shape", [(50, 8), (12, 40)], ids=["N>D", "N<D"])
def test_ridge(shape):
    test_probes_ridge.test_path_equals_the_normal_equations(shape)


def test_neighbours():
    test_probes_knn.test_equals_sklearn()


def test_the_keras_head():
    with jax.default_matmul_precision("highest"):  # training takes the platform's default
        test_probes_keras_head.test_one_epoch_equals_adam_by_hand()
