import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tl.errors import UserError
from tl.train import losses
from tl.train.losses import LOSSES
from tl.weights.spec import LINKS

# Softmax gives 1/4 and 3/4, the sigmoids are 1/2 and 3/4.
LOGITS = np.float32([[0.0, np.log(3.0)]] * 4)
TARGETS = np.float32([[0.0, 1.0], [1.0, 0.0], [0.25, 0.75], [0.0, 0.0]])
HALF, QUARTER, MOST = -np.log([0.5, 0.25, 0.75])
MIXED = 0.25 * QUARTER + 0.75 * MOST
BY_HAND = {
    "softmax": [MOST, QUARTER, MIXED, 0],
    "sigmoid": [HALF + MOST, HALF + QUARTER, HALF + MIXED, HALF + QUARTER],
    # (1 - p)^2 with p of the target; of the mixed one p = 0.75 * 0.75 + 0.25 * 0.25 = 5 / 8.
    "focal": [
        HALF / 4 + MOST / 16,
        HALF / 4 + QUARTER * 9 / 16,
        HALF / 4 + MIXED * 9 / 64,
        HALF / 4 + QUARTER * 9 / 16,
    ],
}


@functools.partial(jax.jit, static_argnums=0)
def loss(name, logits, targets):
    return LOSSES[name].function(logits, targets)


@functools.partial(jax.jit, static_argnums=0)
def gradient(name, logits, targets):
    return jax.grad(lambda logits: LOSSES[name].function(logits, targets).sum())(logits)


@pytest.mark.parametrize("name", BY_HAND)
def test_values_by_hand(name):
    found = loss(name, LOGITS, TARGETS)
    np.testing.assert_allclose(found, BY_HAND[name], rtol=1e-6, atol=1e-7)
    assert found.dtype == jnp.float32


def test_gradients_by_hand():
    # Softmax and sigmoid: probability less target, where the targets add up to 1.
    targets = TARGETS[:3]
    found = gradient("softmax", LOGITS[:3], targets)
    np.testing.assert_allclose(found, np.array([0.25, 0.75]) - targets, rtol=1e-6, atol=1e-7)
    found = gradient("sigmoid", LOGITS, TARGETS)
    np.testing.assert_allclose(found, np.array([0.5, 0.75]) - TARGETS, rtol=1e-6, atol=1e-7)
    # Focal, by a target of 1: (1-p)^2 (2 p log p + p - 1), with the sign turned for a target of 0.
    found = gradient("focal", LOGITS[:1], TARGETS[:1])
    of_target = (1 - 0.75) ** 2 * (2 * 0.75 * np.log(0.75) + 0.75 - 1)
    of_other = -((1 - 0.5) ** 2) * (2 * 0.5 * np.log(0.5) + 0.5 - 1)
    np.testing.assert_allclose(found, [[of_other, of_target]], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
class TestEachLoss:
    def test_gradient_is_that_of_its_values(self, name):
        rng = np.random.default_rng(0)
        logits = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
        targets = jnp.asarray(rng.dirichlet(np.ones(4), size=3), jnp.float32)
        function = jax.jit(lambda logits: LOSSES[name].function(logits, targets))
        check_grads(function, (logits,), 1, ["rev"], atol=1e-2, rtol=1e-2, eps=1e-2)

    def test_one_number_a_row_which_no_other_row_changes(self, name):
        function = functools.partial(loss, name)
        together = function(LOGITS, TARGETS)
        assert together.shape == (4,)
        assert (np.asarray(together) >= 0).all()
        for row in range(4):
            alone = function(LOGITS[row : row + 1], TARGETS[row : row + 1])
            np.testing.assert_array_equal(alone, np.asarray(together)[row : row + 1])

    def test_the_right_class_is_better_than_another(self, name):
        right, wrong = np.asarray(loss(name, np.eye(2)[::-1], np.array([[0.0, 1.0]] * 2)))
        assert right < wrong

    def test_large_logits_give_finite_losses_and_gradients(self, name):
        logits = np.float32([[200.0, -200.0], [-200.0, 200.0], [0.0, 0.0]])
        targets = np.float32([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
        assert np.isfinite(loss(name, logits, targets)).all()
        assert np.isfinite(gradient(name, logits, targets)).all()

    def test_its_link_is_known(self, name):
        assert LOSSES[name].link in LINKS


def test_by_name():
    assert losses.by_name("focal") is LOSSES["focal"]
    with pytest.raises(
        UserError, match=r"^train\.loss: there is no 'sigmoids'; the nearest are 's"
    ):
        losses.by_name("sigmoids")
