import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import random_variables, tiny_resnet

WIDTHS = (4, 5, 6, 7)


def apply(model, variables, images):
    return jax.jit(model.apply)(variables, images)


@pytest.mark.parametrize("side", [32, 33, 57])
@pytest.mark.parametrize("block", ["bottleneck", "basic"])
def test_endpoint_shapes(side, block):
    model = tiny_resnet(block=block)
    out = jax.eval_shape(
        model.init_with_output, jax.random.key(0), jnp.zeros((2, side, side + 3, 3))
    )[0]
    expansion = 4 if block == "bottleneck" else 1

    def halved(n, times):
        for _ in range(times):
            n = -(-n // 2)
        return n

    assert set(out) == {"stem", "stage1", "stage2", "stage3", "stage4", "pooled", "logits"}
    assert out["stem"].shape == (2, halved(side, 2), halved(side + 3, 2), 4)
    for i, width in enumerate(WIDTHS):
        spatial = (halved(side, 2 + i), halved(side + 3, 2 + i))
        assert out[f"stage{i + 1}"].shape == (2, *spatial, width * expansion)
    assert out["pooled"].shape == (2, 7 * expansion)
    assert out["logits"].shape == (2, 7)


def test_no_classes_means_no_head():
    model = tiny_resnet(num_classes=0)
    variables = random_variables(model)
    assert "head" not in variables["params"]
    assert "logits" not in apply(model, variables, jnp.zeros((1, 32, 32, 3)))


def test_parameter_paths():
    params = random_variables(tiny_resnet())["params"]
    assert set(params) == {"stem", "stage1", "stage2", "stage3", "stage4", "head"}
    assert set(params["stage1"]) == {"block1", "block2"}
    assert set(params["stage1"]["block1"]) == {"conv1", "conv2", "conv3", "downsample"}
    assert set(params["stage1"]["block2"]) == {"conv1", "conv2", "conv3"}
    assert set(params["stem"]) == {"conv", "bn"}


def test_basic_first_stage_has_no_downsample():
    params = random_variables(tiny_resnet(block="basic", stem_width=4))["params"]
    assert "downsample" not in params["stage1"]["block1"]
    assert "downsample" in params["stage2"]["block1"]


def test_v1_strides_in_the_first_convolution():
    # Same parameters, another network: v1 drops three of four pixels before the 3x3 sees them.
    v15, v1 = tiny_resnet(), tiny_resnet(stride_in="1x1")
    variables = random_variables(v15)
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    a, b = apply(v15, variables, images), apply(v1, variables, images)
    np.testing.assert_array_equal(a["stage1"], b["stage1"])
    assert a["stage2"].shape == b["stage2"].shape
    assert np.abs(a["stage2"] - b["stage2"]).max() > 1e-2 * np.abs(a["stage2"]).max()


def test_bfloat16_compute_keeps_float32_parameters():
    model = tiny_resnet(dtype=jnp.bfloat16)
    variables = random_variables(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    out = apply(model, variables, images)["pooled"]
    assert out.dtype == jnp.bfloat16
    exact = apply(model.clone(dtype=jnp.float32), variables, images)["pooled"]
    np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=3e-2 * np.abs(exact).max())


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="got 'bottleneck' and '5x5'"):
        tiny_resnet(stride_in="5x5").init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
