"""The first convolution in blocks, against the native one, on the CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tl.models.cpu import lowering
from tl.models.gpu import stem

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def native(x, kernel, pads):
    return lax.conv_general_dilated(x, kernel, (2, 2), pads, dimension_numbers=DIMENSIONS)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 7), (7, 12), (10, 9)])
@pytest.mark.parametrize(
    ("side", "pads"),
    [
        (7, ((3, 3), (3, 3))),  # ResNet
        (3, ((0, 1), (0, 1))),  # EfficientNet-Lite0 with even sides
        (3, ((1, 1), (1, 1))),
        (4, ((0, 0), (2, 0))),
        (2, ((0, 0), (0, 0))),
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_values_and_gradients_are_those_of_the_convolution(height, width, side, pads, channels):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, height, width, channels)).astype(np.float32)
    kernel = rng.standard_normal((side, side, channels, 5)).astype(np.float32)
    shape = jax.eval_shape(lambda *a: native(*a, pads), x, kernel).shape
    cotangent = rng.standard_normal(shape).astype(np.float32)

    @jax.jit
    def both(x, kernel, cotangent):
        found, pull = jax.vjp(lambda *a: stem.space_to_depth(*a, pads), x, kernel)
        expected, expected_pull = jax.vjp(lambda *a: native(*a, pads), x, kernel)
        assert found.shape == expected.shape
        return (found, *pull(cotangent)), (expected, *expected_pull(cotangent))

    (found, *gradients), (expected, *expected_gradients) = both(x, kernel, cotangent)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    for mine, theirs in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("dtype", "side", "channels", "stride", "blocks"),
    [
        (jnp.bfloat16, 7, 3, 2, True),
        (jnp.float32, 7, 3, 2, False),  # its channels need no filling up
        (jnp.bfloat16, 7, 8, 2, False),
        (jnp.bfloat16, 7, 3, 1, False),
        (jnp.bfloat16, 1, 3, 2, False),
    ],
)
def test_only_cuda_and_only_few_channels_of_16_bits(dtype, side, channels, stride, blocks):
    x = jax.ShapeDtypeStruct((1, 16, 16, channels), dtype)
    kernel = jax.ShapeDtypeStruct((side, side, channels, 8), dtype)

    def conv(x, kernel):
        return lowering.conv(x, kernel, (stride, stride), "SAME", dimension_numbers=DIMENSIONS)

    traced = jax.jit(conv).trace(x, kernel)
    for platform in ("cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == 1
        assert ("x16xbf16>" in text) == (blocks and platform == "cuda")
