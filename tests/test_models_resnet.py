import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import random_variables, tiny_resnet
from tl import tree
from tl.models import resnet
from tl.models.resnet import ResNet

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


def test_groups_are_blocks_of_a_dense_kernel():
    # Two groups of half the width are one of the whole width, whose other weights are 0.
    grouped = tiny_resnet(widths=(4, 4, 8, 8), groups=2, base_width=32)
    dense = tiny_resnet(widths=(4, 4, 8, 8))
    variables = random_variables(grouped)

    def spread(path, leaf):
        if "/".join(key.key for key in path[-3:]) != "conv2/conv/kernel":
            return leaf
        channels, features = leaf.shape[2:]
        assert 2 * channels == features
        kernel = np.zeros((3, 3, features, features), np.float32)
        kernel[:, :, :channels, : features // 2] = leaf[..., : features // 2]
        kernel[:, :, channels:, features // 2 :] = leaf[..., features // 2 :]
        return kernel

    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    found = apply(grouped, variables, images)
    expected = apply(dense, jax.tree_util.tree_map_with_path(spread, variables), images)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6 * abs(value).max())


def test_channels_of_resnext_and_wide_resnet():
    for arguments, inner in (
        ({"groups": 32, "base_width": 4}, [128, 256]),  # 32x4d
        ({"groups": 64, "base_width": 4}, [256, 512]),
        ({"base_width": 128}, [128, 256]),  # Wide-ResNet-2
    ):
        model = ResNet((1, 1), widths=(64, 128), num_classes=0, **arguments)
        images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
        params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
        for i, channels in enumerate(inner):
            block = params[f"stage{i + 1}"]["block1"]
            shape = block["conv2"]["conv"]["kernel"].shape
            assert shape == (3, 3, channels // arguments.get("groups", 1), channels)
            assert block["conv3"]["conv"]["kernel"].shape[-1] == 4 * (64, 128)[i]


def test_squares_that_lie_partly_outside_are_means_of_their_pixels():
    x = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    np.testing.assert_array_equal(
        jax.jit(resnet.mean_pool, static_argnums=1)(x, 2)[0, ..., 0], [[3, 4.5], [7.5, 9]]
    )
    x = np.arange(1, 5, dtype=np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(
        jax.jit(resnet.mean_pool, static_argnums=1)(x, 2)[0, ..., 0], [[2.5]]
    )


def test_a_pooled_shortcut_has_the_same_parameters_and_other_outputs():
    plain, pooled = tiny_resnet(), tiny_resnet(pooled_shortcut=True)
    variables = random_variables(plain)
    images = jax.random.normal(jax.random.key(1), (2, 34, 34, 3))
    a, b = apply(plain, variables, images), apply(pooled, variables, images)
    np.testing.assert_allclose(a["stage1"], b["stage1"], rtol=1e-5, atol=1e-5)  # no stride
    assert np.abs(a["stage2"] - b["stage2"]).max() > 1e-2 * np.abs(a["stage2"]).max()


def test_a_deep_stem_by_hand():
    model = ResNet((), widths=(), stem_width=4, deep_stem=True, num_classes=0)
    images = np.arange(7 * 7 * 3, dtype=np.float32).reshape(1, 7, 7, 3) - 70
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    for name, taps in (
        ("conv1", [(1, 1, 0, 0, 1.0), (1, 1, 1, 1, -1.0)]),  # the red of a pixel; minus its green
        ("conv2", [(1, 1, 0, 0, 1.0), (1, 0, 0, 0, 1.0), (1, 1, 1, 1, 1.0)]),  # plus its left
        ("conv3", [(1, 1, 0, 0, 2.0), (1, 1, 1, 3, 1.0)]),
    ):
        unit = variables["params"]["stem"][name]
        for *place, weight in taps:
            unit["conv"]["kernel"][tuple(place)] = weight
        unit["bn"]["scale"][:] = 1
        variables["batch_stats"]["stem"][name]["bn"]["var"][:] = 1 - 1e-5  # and the epsilon
    found = apply(model, variables, images)["stem"][0]
    # The pixels 0, 2, 4, 6 of each axis: red is 42 row + 6 column - 70, and green is 1 more.
    red = np.array([[42 * i + 6 * j - 70 for j in range(4)] for i in range(4)])
    first = np.maximum(red, 0)
    first[:, 1:] += first[:, :-1].copy()
    second = np.maximum(-red - 1, 0)

    def pooled(x):  # 3x3 at stride 2
        x = np.pad(x, 1)
        return [[x[i : i + 3, j : j + 3].max() for j in (0, 2)] for i in (0, 2)]

    assert found.shape == (2, 2, 4)
    np.testing.assert_allclose(found[..., 0], 2 * np.array(pooled(first)), rtol=1e-5)
    np.testing.assert_allclose(found[..., 3], pooled(second), rtol=1e-5)
    assert not found[..., 1:3].any()


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
    with pytest.raises(ValueError, match="basic blocks have one group"):
        tiny_resnet(block="basic", groups=2).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


SMALL = {"stage_sizes": (1, 1), "widths": (4, 5), "block": "basic", "num_classes": 3}
ENDPOINTS = ("stem", "stage1", "stage2", "pooled")


@pytest.fixture(scope="module")
def small():
    model = tiny_resnet(**SMALL)
    return model, random_variables(model), jax.random.normal(jax.random.key(1), (4, 32, 32, 3))


def test_from_every_endpoint_on_the_rest_is_the_same(small):
    model, variables, images = small
    whole = apply(model, variables, images)
    for i, start in enumerate(ENDPOINTS):
        rest = jax.jit(functools.partial(model.apply, start=start))(variables, whole[start])
        assert set(rest) == {*ENDPOINTS[i + 1 :], "logits"}
        for name, values in rest.items():
            np.testing.assert_allclose(values, whole[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert np.ptp(whole["logits"], axis=0).min() > 1e-2


def test_a_start_that_is_no_endpoint_before_the_head_is_named(small):
    model, variables, images = small
    for start in ("stage3", "logits"):
        with pytest.raises(ValueError, match=f"'pooled'.*got '{start}'"):
            model.apply(variables, images, start=start)


@pytest.mark.parametrize(
    ("start", "moving"),
    [
        ("", {"stem", "stage2/block1/downsample"}),
        ("stage1", {"stage2/block1/conv1", "stage2/block1/conv2", "stage2/block1/downsample"}),
    ],
)
def test_exactly_the_named_statistics_move_and_all_come_back(small, start, moving):
    model, variables, images = small
    inputs = apply(model, variables, images)[start] if start else images
    run = functools.partial(
        model.apply, train=frozenset(moving), start=start, mutable=["batch_stats"]
    )
    _, updated = jax.jit(run)(variables, inputs)
    before, after = tree.leaves(variables["batch_stats"]), tree.leaves(updated["batch_stats"])
    assert before.keys() == after.keys()
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert moved == {f"{module}/bn/{leaf}" for module in moving for leaf in ("mean", "var")}


def test_dropout_needs_a_key_and_is_before_the_head(small):
    model, variables, images = small
    dropping = jax.jit(
        lambda key: model.clone(dropout=0.5).apply(variables, images, rngs={"dropout": key})
    )
    plain = apply(model, variables, images)
    np.testing.assert_array_equal(
        apply(model.clone(dropout=0.5), variables, images)["logits"], plain["logits"]
    )
    one, same, other = (dropping(jax.random.key(i)) for i in (0, 0, 1))
    np.testing.assert_array_equal(one["logits"], same["logits"])
    assert not np.allclose(one["logits"], other["logits"])
    assert not np.allclose(one["logits"], plain["logits"])
    np.testing.assert_allclose(one["pooled"], plain["pooled"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("start", ["", "stage1"])
def test_logits_are_float32_in_bfloat16(start):
    model = tiny_resnet(**SMALL, dtype=jnp.bfloat16)
    images = jnp.zeros((2, 32, 32, 3))
    out, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    inputs = out[start] if start else images
    out = jax.eval_shape(functools.partial(model.apply, start=start), variables, inputs)
    assert out.pop("logits").dtype == jnp.float32
    assert {leaf.dtype for leaf in out.values()} == {jnp.dtype("bfloat16")}
