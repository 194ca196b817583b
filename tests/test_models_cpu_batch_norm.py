"""Our batch normalisation against Flax's: values, gradients and statistics."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl.models.cpu.batch_norm import BatchNorm

OPTIONS = {"momentum": 0.7, "epsilon": 1e-3}


def variables(width):
    rng = np.random.default_rng(1)
    mean, var, scale, bias = rng.uniform(0.5, 2.0, (4, width)).astype(np.float32)
    return {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": var},
    }


def images(shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(0).normal(0.5, 2.0, shape).astype(dtype))


def outputs(module, x, use_running_average):
    """Returns the result, the new statistics, and the gradients of variables and input."""

    def apply(variables, x):
        return module.apply(
            variables, x, use_running_average=use_running_average, mutable=["batch_stats"]
        )

    @jax.jit
    def pulled(variables, x, cotangent):
        y, pull, updated = jax.vjp(apply, variables, x, has_aux=True)
        return y, updated, pull(jnp.asarray(cotangent, y.dtype))

    return pulled(variables(x.shape[-1]), x, np.asarray(images(x.shape)) ** 2)


@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (1, 2, 2, 1), (6, 3)])
@pytest.mark.parametrize("use_running_average", [True, False])
def test_equals_flax_forward_and_backward(shape, use_running_average):
    x = images(shape)
    ours = outputs(BatchNorm(**OPTIONS), x, use_running_average)
    theirs = outputs(nn.BatchNorm(**OPTIONS), x, use_running_average)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * np.abs(b).max())


@functools.partial(jax.jit, static_argnames="module")
def trained(module, variables, x):
    """Returns what a module gives by the statistics of a batch, and the new ones."""
    return module.apply(variables, x, use_running_average=False, mutable=["batch_stats"])


def test_by_hand():
    x = np.array([[1.0], [3.0]], np.float32)  # mean 2, variance 1
    module = BatchNorm(momentum=0.9, epsilon=3.0)
    start = {
        "params": {"scale": np.float32([4.0]), "bias": np.float32([0.5])},
        "batch_stats": {"mean": np.float32([1.0]), "var": np.float32([6.0])},
    }
    y, updated = trained(module, start, x)
    np.testing.assert_allclose(y, [[-1.5], [2.5]], rtol=1e-6)  # 4 * (x - 2) / sqrt(1 + 3) + 0.5
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [1.1], rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], [5.5], rtol=1e-6)
    y = jax.jit(functools.partial(module.apply, use_running_average=True))(start, x)
    np.testing.assert_allclose(y, [[0.5], [0.5 + 8 / 3]], rtol=1e-6)  # sqrt(6 + 3) = 3


def test_has_the_variables_of_flax():
    x = images((2, 3))
    ours, theirs = (
        jax.jit(functools.partial(module.init, use_running_average=False))(jax.random.key(0), x)
        for module in (BatchNorm(), nn.BatchNorm())
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_constant_channel_is_its_bias():
    x = np.full(
        (64, 1), 12345.678, np.float32
    )  # whose mean square less squared mean rounds below 0
    module = BatchNorm(**OPTIONS)
    y, updated = trained(module, variables(1), x)
    gain = variables(1)["params"]["scale"] / np.sqrt(OPTIONS["epsilon"])
    assert np.isfinite(y).all()
    # What float32 leaves of x - mean, times the gain.
    np.testing.assert_allclose(
        np.asarray(y) - variables(1)["params"]["bias"], 0, atol=4e-3 * gain[0]
    )
    assert (np.asarray(updated["batch_stats"]["var"]) >= 0).all()


def test_bfloat16_is_normalised_in_float32():
    x = images((64, 3), jnp.bfloat16)
    module = BatchNorm(**OPTIONS, dtype=jnp.bfloat16)
    y, updated = trained(module, variables(3), x)
    assert y.dtype == jnp.bfloat16
    exact = outputs(nn.BatchNorm(**OPTIONS), np.asarray(x, np.float32), False)
    np.testing.assert_allclose(np.asarray(y, np.float32), exact[0], rtol=2**-8, atol=1e-6)
    for leaf in jax.tree.leaves(updated):
        assert leaf.dtype == jnp.float32
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updated, exact[1])
