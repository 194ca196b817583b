"""Max pooling against `flax.linen.max_pool`, with its gradient, and its ties."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl.models.cpu.pooling import max_pool

CASES = [
    # height, width, window, strides, pads
    (8, 10, (3, 3), (2, 2), ((1, 1), (1, 1))),  # ResNet's
    (9, 7, (3, 3), (2, 2), ((1, 1), (1, 1))),
    (8, 9, (3, 3), (2, 2), ((0, 1), (0, 1))),
    (9, 8, (2, 3), (3, 1), ((0, 0), (2, 0))),  # pixels that no window meets
    (5, 6, (3, 2), (1, 1), ((0, 0), (0, 0))),
    (1, 1, (3, 3), (2, 2), ((1, 1), (1, 1))),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("height,width,window,strides,pads", CASES)
def test_equals_flax_forward_and_backward_with_ties(height, width, window, strides, pads, dtype):
    rng = np.random.default_rng(0)
    # Few distinct values, as after a ReLU, so that most windows have ties.
    x = jnp.asarray(rng.integers(0, 4, (3, height, width, 5)), dtype)
    shape = jax.eval_shape(lambda x: max_pool(x, window, strides, pads), x).shape
    # Small whole numbers: their sums are exact in bfloat16, in any order.
    grad = jnp.asarray(rng.integers(-4, 5, shape), dtype)

    @jax.jit
    def both(x, grad):
        native, pull_native = jax.vjp(lambda x: nn.max_pool(x, window, strides, padding=pads), x)
        ours, pull = jax.vjp(lambda x: max_pool(x, window, strides, pads), x)
        return (ours, *pull(grad)), (native, *pull_native(grad))

    (ours, our_grad), (native, native_grad) = both(x, grad)
    assert ours.dtype == native.dtype
    np.testing.assert_array_equal(ours, native)
    np.testing.assert_array_equal(our_grad, native_grad)


def test_the_first_of_equal_pixels_gets_the_gradient():
    x = np.zeros((1, 2, 2, 1), np.float32)
    pooled = jax.jit(jax.grad(lambda x: max_pool(x, (2, 2), (2, 2), ((0, 0), (0, 0))).sum()))
    grad = pooled(x)
    np.testing.assert_array_equal(grad[0, ..., 0], [[1, 0], [0, 0]])


def test_a_value_that_is_no_number_is_passed_on():
    x = np.array([1.0, np.nan, 2.0, 3.0], np.float32).reshape(1, 2, 2, 1)
    value, _ = jax.vjp(jax.jit(lambda x: max_pool(x, (2, 2), (2, 2), ((0, 0), (0, 0)))), x)
    assert np.isnan(value).all()


@pytest.mark.parametrize("height,width,window,strides,pads", CASES)
def test_a_program_for_any_number_of_images_pads_before_it_pools(
    height, width, window, strides, pads
):
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, height, width, 5), jnp.float32)
    pool = jax.jit(lambda x: max_pool(x, window, strides, pads))
    (call,) = jax.make_jaxpr(pool)(images).eqns
    operations = {one.primitive.name: one.params for one in call.params["jaxpr"].eqns}
    assert set(operations["reduce_window_max"]["padding"]) == {(0, 0)}  # what jax2onnx can write
    x = np.random.default_rng(0).normal(size=(3, height, width, 5)).astype(np.float32) - 3
    found = jax.export.export(pool)(images).call(x)
    native = jax.jit(lambda x: nn.max_pool(x, window, strides, padding=pads))
    np.testing.assert_array_equal(found, native(x))
