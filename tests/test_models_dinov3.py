import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import random_variables
from tl.models import dinov3
from tl.models.dinov3 import DINOv3, angles, turned


def tiny(**arguments):
    sizes = {"width": 24, "depth": 2, "heads": 3, "patch": 4, "registers": 2, "num_classes": 5}
    return DINOv3(**{**sizes, **arguments})


def noise(*shape):
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def test_angles_worked_by_hand():
    """Centres of two rows are at -1/2 and 1/2, of one column at 0; periods are 1 and 10."""
    pi = np.pi
    np.testing.assert_allclose(
        angles(2, 1, 8), [[-pi, -pi / 10, 0, 0], [pi, pi / 10, 0, 0]], rtol=1e-6
    )
    of_width = angles(1, 4, 4)  # -3/4, -1/4, 1/4, 3/4; one period
    np.testing.assert_allclose(
        of_width, [[0, -1.5 * pi], [0, -pi / 2], [0, pi / 2], [0, 1.5 * pi]], rtol=1e-6
    )
    grid = angles(2, 3, 4).reshape(2, 3, 2)  # row by row, the height first
    assert np.all(grid[0, :, 0] < 0) and np.all(grid[1, :, 0] > 0)
    np.testing.assert_allclose(grid[:, 1, 1], 0, atol=1e-6)


def test_turning_worked_by_hand():
    """A quarter turns (1, 2) into (-2, 1); tokens before the patches stay."""
    x = jnp.array([[9.0, 9, 9, 9], [1, 3, 2, 4]])[None, :, None]
    found = turned(x, np.array([[np.pi / 2, np.pi]], np.float32))
    np.testing.assert_allclose(found[0, :, 0], [[9, 9, 9, 9], [-2, -3, 1, -4]], atol=1e-6)


def test_what_two_patches_share_depends_on_their_distance_alone():
    q, k = np.random.default_rng(0).normal(size=(2, 8))
    by = angles(6, 1, 8)

    def turn(x):
        return np.asarray(turned(jnp.tile(jnp.float32(x), (1, 6, 1, 1)), by))[0, :, 0]

    shared = turn(q) @ turn(k).T
    for distance in range(-5, 6):
        diagonal = np.diagonal(shared, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-4)
    assert np.std(shared[0]) > 0.1


def test_shapes_at_odd_sizes_and_which_parameters_there_are():
    for arguments in ({}, {"gated": True}, {"qkv_bias": True}):
        model = tiny(**arguments)
        variables = random_variables(model, size=16)
        found = jax.eval_shape(model.apply, variables, noise(2, 12, 20, 3))
        assert found["embed"].shape == found["block2"].shape == (2, 3 + 15, 24)
        assert (found["pooled"].shape, found["logits"].shape) == ((2, 24), (2, 5))
        params = variables["params"]
        assert "positions" not in params["embed"]
        biases = {"query_bias", "value_bias"} if model.qkv_bias else set()
        assert set(params["block1"]["attn"]["qkv"]) == {"kernel"} | biases
        hidden = {"gate", "up"} if model.gated else {"fc1"}
        assert set(params["block1"]["mlp"]) == hidden | {"fc2"}


def test_the_bias_of_queries_and_values_and_a_gate_worked_by_hand():
    qkv = dinov3.QueryValueDense(6, jnp.float32, jnp.float32)
    params = {"kernel": jnp.ones((3, 6)), "query_bias": jnp.array([1.0, 2]),
              "value_bias": jnp.array([3.0, 4])}  # fmt: skip
    found = qkv.apply({"params": params}, jnp.ones((1, 1, 3)))
    np.testing.assert_array_equal(found[0, 0], [4, 5, 3, 3, 6, 7])

    def dense(value):
        return {"kernel": jnp.full((1, 4), value), "bias": jnp.zeros(4)}

    mlp = dinov3.GatedMlp(lambda features, name: dinov3.nn.Dense(features, name=name))
    out = {"kernel": jnp.full((4, 1), 0.25), "bias": jnp.ones(1)}
    params = {"gate": dense(2.0), "up": dense(3.0), "fc2": out}
    found = mlp.apply({"params": params}, jnp.ones((1, 1, 1)))
    np.testing.assert_allclose(found, 2 / (1 + np.exp(-2)) * 3 + 1, rtol=1e-6)


def test_tokens_to_start_from_must_be_of_square_images():
    model = tiny()
    variables = random_variables(model, size=16)
    assert "pooled" in jax.eval_shape(
        lambda x: model.apply(variables, x, start="block1"), noise(1, 3 + 9, 24)
    )
    with pytest.raises(ValueError, match="expected tokens of square images, got 18 tokens"):
        model.apply(variables, noise(1, 3 + 15, 24), start="block1")


def test_logits_are_float32_in_bfloat16():
    model = tiny(dtype=jnp.bfloat16, gated=True)
    found = jax.eval_shape(model.apply, random_variables(model, size=16), noise(2, 16, 16, 3))
    assert found["block1"].dtype == found["pooled"].dtype == jnp.bfloat16
    assert found["logits"].dtype == jnp.float32
