import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tl.models import layers

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [
        (9, 3, 1, "SAME"),
        (8, 3, 2, "SAME"),
        (9, 5, 2, "SAME"),
        (1, 5, 2, "SAME"),
        (7, 5, 1, [(2, 2), (2, 2)]),
        (6, 3, 2, [(1, 1), (1, 1)]),
    ],
)
def test_depthwise_equals_grouped_convolution_and_its_gradients(side, kernel, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, side, side + 1, 6))
    taps = jax.random.normal(jax.random.key(1), (kernel, kernel, 1, 6))

    def ours(x, taps):
        return layers.conv(
            x,
            taps,
            (stride, stride),
            padding,
            feature_group_count=6,
            dimension_numbers=DIMENSIONS,
        )

    def plain(x, taps):
        return lax.conv_general_dilated(
            x,
            taps,
            (stride, stride),
            padding,
            feature_group_count=6,
            dimension_numbers=DIMENSIONS,
        )

    np.testing.assert_allclose(jax.jit(ours)(x, taps), plain(x, taps), rtol=1e-5, atol=1e-5)
    for a, b in zip(
        jax.jit(jax.grad(lambda *t: jnp.sum(ours(*t) ** 2), (0, 1)))(x, taps),
        jax.jit(jax.grad(lambda *t: jnp.sum(plain(*t) ** 2), (0, 1)))(x, taps),
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


def test_padding_by_hand():
    # One channel, kernel of ones, stride 2 on 4 pixels: torch pads (1, 1), 'SAME' pads (0, 1).
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    for padding, corner in (("torch", 0 + 1 + 4 + 5), ("same", 0 + 1 + 2 + 4 + 5 + 6 + 8 + 9 + 10)):
        unit = layers.ConvBN(1, 3, 2, padding=padding, folded=True)
        params = {"conv": {"kernel": jnp.ones((3, 3, 1, 1)), "bias": jnp.zeros(1)}}
        out = unit.apply({"params": params}, x)
        assert out.shape == (1, 2, 2, 1)
        assert float(out[0, 0, 0, 0]) == corner


def test_batch_norm_by_hand():
    unit = layers.ConvBN(1, 1, norm_epsilon=1.0)
    variables = {
        "params": {
            "conv": {"kernel": jnp.ones((1, 1, 1, 1))},
            "bn": {"scale": jnp.array([4.0]), "bias": jnp.array([0.5])},
        },
        "batch_stats": {"bn": {"mean": jnp.array([2.0]), "var": jnp.array([3.0])}},
    }
    x = jnp.full((1, 1, 1, 1), 5.0)
    # 4 * (5 - 2) / sqrt(3 + 1) + 0.5
    np.testing.assert_allclose(unit.apply(variables, x), 6.5)


def test_train_mode_updates_statistics_with_the_momentum():
    unit = layers.ConvBN(1, 1, norm_momentum=0.9)
    x = jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    variables = unit.init(jax.random.key(0), x)
    variables["params"]["conv"]["kernel"] = jnp.ones((1, 1, 1, 1))
    _, updated = unit.apply(variables, x, train=True, mutable=["batch_stats"])
    # mean 2, biased variance 1; old mean 0 and variance 1.
    np.testing.assert_allclose(updated["batch_stats"]["bn"]["mean"], [0.2], rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["bn"]["var"], [1.0], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 8, 8, 4)])
def test_wrong_images_are_named(shape):
    with pytest.raises(ValueError, match=r"expected normalised .* got float32"):
        layers.check_images(jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"got uint8\[1, 8, 8, 3\]"):
        layers.check_images(jnp.zeros((1, 8, 8, 3), jnp.uint8))
