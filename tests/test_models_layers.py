import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl.models import layers


def test_padding_by_hand():
    # One channel, kernel of ones, stride 2 on 4 pixels: torch pads (1, 1), 'SAME' pads (0, 1).
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    for padding, corner in (("torch", 0 + 1 + 4 + 5), ("same", 0 + 1 + 2 + 4 + 5 + 6 + 8 + 9 + 10)):
        unit = layers.ConvBN(1, 3, 2, padding=padding, folded=True)
        params = {"conv": {"kernel": np.ones((3, 3, 1, 1), "f"), "bias": np.zeros(1, "f")}}
        out = jax.jit(unit.apply)({"params": params}, x)
        assert out.shape == (1, 2, 2, 1)
        assert np.asarray(out)[0, 0, 0, 0] == corner


def test_batch_norm_by_hand():
    unit = layers.ConvBN(1, 1, norm_epsilon=1.0)
    variables = {
        "params": {
            "conv": {"kernel": np.ones((1, 1, 1, 1), np.float32)},
            "bn": {"scale": np.float32([4.0]), "bias": np.float32([0.5])},
        },
        "batch_stats": {"bn": {"mean": np.float32([2.0]), "var": np.float32([3.0])}},
    }
    x = np.full((1, 1, 1, 1), 5.0, np.float32)
    # 4 * (5 - 2) / sqrt(3 + 1) + 0.5
    np.testing.assert_allclose(jax.jit(unit.apply)(variables, x), 6.5)


def test_train_mode_updates_statistics_with_the_momentum():
    unit = layers.ConvBN(1, 1, norm_momentum=0.9)
    x = np.float32([1.0, 3.0]).reshape(2, 1, 1, 1)
    variables = jax.jit(unit.init)(jax.random.key(0), x)
    variables["params"]["conv"]["kernel"] = np.ones((1, 1, 1, 1), np.float32)
    apply = functools.partial(unit.apply, train=True, mutable=["batch_stats"])
    _, updated = jax.jit(apply)(variables, x)
    # mean 2, biased variance 1; old mean 0 and variance 1.
    np.testing.assert_allclose(updated["batch_stats"]["bn"]["mean"], [0.2], rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["bn"]["var"], [1.0], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 8, 8, 4)])
def test_wrong_images_are_named(shape):
    with pytest.raises(ValueError, match=r"expected normalised .* got float32"):
        layers.check_images(jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"got uint8\[1, 8, 8, 3\]"):
        layers.check_images(jnp.zeros((1, 8, 8, 3), jnp.uint8))


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return layers.ConvBN(1, 1, name="conv")(x, train)


class Two(nn.Module):
    """One convolution with batch normalisation at the top, and one a level down."""

    @nn.compact
    def __call__(self, x, train):
        x = layers.ConvBN(1, 1, name="first")(x, train)
        return Inner(name="second")(x, train)


@pytest.mark.parametrize(
    ("train", "moving"),
    [
        (frozenset(), set()),
        (frozenset({"first"}), {"first"}),
        (frozenset({"second/conv"}), {"second/conv"}),
        (frozenset({"first", "second/conv"}), {"first", "second/conv"}),
        # Whole paths of the modules, not parts of them.
        (frozenset({"conv", "second", "fir"}), set()),
        (True, {"first", "second/conv"}),
        (False, set()),
    ],
)
def test_batch_normalisation_moves_by_path(train, moving):
    model, x = Two(), jnp.asarray(np.float32([1.0, 2.0, 6.0]).reshape(3, 1, 1, 1))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, False))
    # Running statistics of mean 0 and variance 1; kernels, scales and biases of 1.
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    variables["batch_stats"] = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.float32([path[-1].key == "var"]), shapes["batch_stats"]
    )
    apply = jax.jit(lambda variables, x: model.apply(variables, x, train, mutable=["batch_stats"]))
    out, updated = apply(variables, x)
    expected = np.array([1.0, 2.0, 6.0])
    for path, bn in (
        ("first", updated["batch_stats"]["first"]["bn"]),
        ("second/conv", updated["batch_stats"]["second"]["conv"]["bn"]),
    ):
        mean, var = (expected.mean(), expected.var()) if path in moving else (0.0, 1.0)
        np.testing.assert_allclose(bn["mean"], [0.1 * mean], atol=1e-6)
        np.testing.assert_allclose(bn["var"], [0.9 + 0.1 * var], rtol=1e-6)
        expected = (expected - mean) / np.sqrt(var + 1e-5) + 1.0
    np.testing.assert_allclose(np.ravel(out), expected, rtol=1e-5, atol=1e-5)


class Head(nn.Module):
    num_classes: int
    dropout: float
    param_dtype: type = jnp.float32

    @nn.compact
    def __call__(self, x):
        return layers.head(self, x)


def test_the_head_drops_inputs_with_a_key_and_nowhere_else():
    # With the identity for a kernel the logits are the inputs that the head was given.
    size, model = 1000, Head(1000, 0.25)
    kernel, bias = np.eye(size, dtype=np.float32), np.zeros(size, np.float32)
    variables = {"params": {"head": {"kernel": kernel, "bias": bias}}}
    x = np.ones((3, size), np.float32)
    apply = jax.jit(model.apply)
    np.testing.assert_array_equal(apply(variables, x), x)
    kept = [np.asarray(apply(variables, x, rngs={"dropout": jax.random.key(i)})) for i in (0, 0, 1)]
    assert set(np.unique(kept[0])) == {0.0, np.float32(1 / 0.75)}
    # Of 3000 independent inputs 750 are dropped, give or take 24.
    assert abs((kept[0] == 0).sum() - 750) < 5 * np.sqrt(3000 * 0.25 * 0.75)
    np.testing.assert_array_equal(kept[0], kept[1])
    assert not np.array_equal(kept[0], kept[2])
    assert not np.array_equal(kept[0][0], kept[0][1])
    whole = jax.jit(Head(size, 0.0).apply)(variables, x, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(whole, x)


def test_the_heads_logits_are_float32_of_any_input():
    kernel, bias = np.eye(2, dtype=np.float32), np.full(2, 1 / 3, np.float32)
    variables = {"params": {"head": {"kernel": kernel, "bias": bias}}}
    logits = jax.jit(Head(2, 0.0).apply)(variables, np.ones((1, 2), jnp.bfloat16))
    assert logits.dtype == jnp.float32
    np.testing.assert_array_equal(logits, np.full((1, 2), np.float32(1) + np.float32(1 / 3)))


def test_units_run_from_the_start_on_to_the_stop():
    units = {"a": lambda x: x + 1, "b": lambda x: x * 10, "c": lambda x: x - 3}

    def outputs(x, start, stop):
        found = layers.compute_endpoints(units, jnp.asarray(np.float32([x])), start, stop)
        return {name: value.item() for name, value in found.items()}

    assert outputs(1, "", "") == {"a": 2, "b": 20, "c": 17}
    assert outputs(2, "a", "") == {"b": 20, "c": 17}
    assert outputs(20, "b", "") == {"c": 17}
    assert outputs(17, "c", "") == {}
    assert outputs(1, "", "b") == {"a": 2, "b": 20}
    assert outputs(2, "a", "b") == {"b": 20}
    for bounds in (("d", ""), ("", "d")):
        with pytest.raises(ValueError, match=r"among \['a', 'b', 'c'\], got 'd'"):
            outputs(1, *bounds)


def test_stochastic_depth_leaves_out_whole_examples_and_keeps_the_mean():
    drop = layers.DropPath(0.25)
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (4000, 2, 3)), jnp.float32)
    key = jax.random.key(0)
    found = np.asarray(drop.apply({}, x, rngs={"dropout": key}))
    kept = np.all(found != 0, axis=(1, 2))
    assert np.all(found[~kept] == 0)
    np.testing.assert_allclose(found[kept], x[kept] / 0.75, rtol=1e-6)
    # Of 4,000 draws the standard deviation of a share of 0.75 is 0.007.
    assert kept.mean() == pytest.approx(0.75, abs=0.03)
    assert found.mean() == pytest.approx(float(x.mean()), rel=0.04)
    np.testing.assert_array_equal(drop.apply({}, x, rngs={"dropout": key}), found)
    assert np.any(drop.apply({}, x, rngs={"dropout": jax.random.key(1)}) != found)
    np.testing.assert_array_equal(drop.apply({}, x), x)  # in evaluation


def test_rates_of_stochastic_depth_grow_evenly():
    assert layers.drop_rates(0.3, 4) == pytest.approx((0, 0.1, 0.2, 0.3))
    assert layers.drop_rates(0.3, 1) == (0,)
    assert layers.drop_rates(0.0, 12) == (0,) * 12
