import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import random_variables
from tl.models import resnet_v2
from tl.models.resnet_v2 import ResNetV2


@pytest.fixture(autouse=True)
def few_groups(monkeypatch):
    monkeypatch.setattr(resnet_v2, "GROUPS", 4)


def tiny(**arguments):
    defaults = {"stage_sizes": (2, 1), "widths": (8, 16), "stem_width": 32, "num_classes": 5}
    return ResNetV2(**{**defaults, **arguments})


def apply(model, variables, images):
    return jax.jit(model.apply)(variables, images)


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_a_standardised_kernel_by_hand():
    # Three output channels: mean 2 and variance 1; one value; a variance as small as the epsilon.
    kernel = np.array([[1, 5, 0], [3, 5, 2e-4]], np.float32).reshape(1, 1, 2, 3)
    found = jax.jit(resnet_v2.standardise)(kernel)[0, 0]
    np.testing.assert_allclose(found, [[-1, 0, -(0.5**0.5)], [1, 0, 0.5**0.5]], rtol=1e-5)


def test_a_kernel_is_standardised_over_its_taps_and_channels():
    kernel = 3 + noise(3, 3, 5, 4)
    found = np.asarray(jax.jit(resnet_v2.standardise)(kernel)).reshape(-1, 4)
    np.testing.assert_allclose(found.mean(0), np.zeros(4), atol=1e-6)
    np.testing.assert_allclose(found.var(0), np.ones(4), rtol=1e-5)
    flat = kernel.reshape(-1, 4)
    expected = (flat - flat.mean(0)) / flat.std(0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_group_normalisation_by_hand():
    norm = resnet_v2.GroupNorm(2, 3.0, jnp.float32, jnp.float32)
    # One pixel of two groups, 1 and 3, 2 and 8: means 2 and 5, variances 1 and 9.
    x = np.array([[[[1, 3, 2, 8]]]], np.float32)
    variables = {"params": {"scale": np.float32([1, 1, 2, 1]), "bias": np.float32([0, 1, 0, 0])}}
    found = np.ravel(apply(norm, variables, x))
    np.testing.assert_allclose(found, [-1 / 2, 1 / 2 + 1, -6 / 12**0.5, 3 / 12**0.5], rtol=1e-6)


def test_group_normalisation_is_of_each_image_and_of_all_its_pixels():
    x = 7 + noise(2, 3, 4, 6)
    variables = {"params": {"scale": np.ones(6, np.float32), "bias": np.zeros(6, np.float32)}}
    found = apply(resnet_v2.GroupNorm(3, 0.0, jnp.float32, jnp.float32), variables, x)
    groups = np.asarray(found).reshape(2, 12, 3, 2)
    np.testing.assert_allclose(groups.mean((1, 3)), np.zeros((2, 3)), atol=1e-6)
    np.testing.assert_allclose(groups.var((1, 3)), np.ones((2, 3)), rtol=1e-5)


def test_a_large_mean_leaves_the_variance_its_digits():
    x = 1000 + noise(1, 8, 8, 32)
    variables = {"params": {"scale": np.ones(32, np.float32), "bias": np.zeros(32, np.float32)}}
    found = apply(resnet_v2.GroupNorm(4, 1e-5, jnp.float32, jnp.float32), variables, x)
    exact = x.astype(np.float64).reshape(64, 4, 8)
    exact = (exact - exact.mean((0, 2), keepdims=True)) / exact.std((0, 2), keepdims=True)
    np.testing.assert_allclose(found, exact.reshape(x.shape), atol=1e-3)


@pytest.mark.parametrize("bit", [False, True])
def test_a_border_of_zeros_counts_in_bits_pooling_alone(bit):
    model = tiny(stage_sizes=(), widths=(), bit=bit, stem_width=4, num_classes=0)
    images = noise(1, 16, 16, 3)
    variables = random_variables(model)
    kernel = variables["params"]["stem"]["kernel"]
    found = apply(model, variables, images)["stem"][0, ..., 0]
    plain = resnet_v2.standardise(kernel) if bit else kernel
    conv = jax.lax.conv_general_dilated(
        images, plain, (2, 2), [(3, 3)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = np.pad(conv[0, ..., 0], 1, constant_values=0 if bit else -np.inf)
    expected = [[x[i : i + 3, j : j + 3].max() for j in range(0, 8, 2)] for i in range(0, 8, 2)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (conv < 0).any()


@pytest.mark.parametrize("bit", [False, True])
def test_endpoints_and_parameters(bit):
    model = tiny(bit=bit)
    shape = (2, 33, 46, 3)
    out, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros(shape))
    assert out["stem"].shape == (2, 9, 12, 32)
    assert out["stage1"].shape == (2, 9, 12, 32) and out["stage2"].shape == (2, 5, 6, 64)
    assert out["pooled"].shape == (2, 64) and out["logits"].shape == (2, 5)
    params = variables["params"]
    assert set(params) == {"stem", "stage1", "stage2", "pooled", "head"}
    units = {f"{kind}{number}" for kind in ("conv", "norm") for number in (1, 2, 3)}
    assert set(params["stage1"]["block2"]) == units
    assert set(params["stage2"]["block1"]) == {*units, "downsample"}
    assert set(params["pooled"]) == {"gn" if bit else "bn"}
    assert ("batch_stats" in variables) == (not bit)


@pytest.mark.parametrize("bit", [False, True])
def test_the_last_normalisation_is_of_pooled(bit):
    model = tiny(bit=bit)
    variables = random_variables(model)
    images = noise(2, 32, 32, 3)
    found = apply(model, variables, images)
    assert (found["stage2"] < 0).any() and (found["pooled"] >= 0).all()
    rest = {
        kind: {name: leaves[name] for name in ("pooled", "head") if name in leaves}
        for kind, leaves in variables.items()
    }
    again = jax.jit(lambda v, x: model.apply(v, x, start="stage2"))(rest, found["stage2"])
    assert set(again) == {"pooled", "logits"}
    np.testing.assert_allclose(again["logits"], found["logits"], rtol=1e-4, atol=1e-5)


def test_statistics_move_in_training():
    model = tiny()
    variables = random_variables(model)
    train = frozenset({"stage1/block1/norm2", "pooled"})
    _, updated = jax.jit(
        lambda v, x: model.apply(v, x, train=train, mutable=["batch_stats"])
    )(variables, noise(2, 32, 32, 3))  # fmt: skip
    before, after = (v["batch_stats"] for v in (variables, updated))
    equal = jax.tree.map(np.array_equal, before, after)
    moved = {
        "/".join(key.key for key in path[:-1])
        for path, same in jax.tree_util.tree_leaves_with_path(equal)
        if not same
    }
    assert moved == {"stage1/block1/norm2/bn", "pooled/bn"}


@pytest.mark.parametrize("bit", [False, True])
def test_bfloat16_compute_keeps_float32_parameters(bit):
    model = tiny(bit=bit, dtype=jnp.bfloat16)
    variables = random_variables(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = noise(2, 32, 32, 3)
    out = apply(model, variables, images)
    assert out["pooled"].dtype == jnp.bfloat16 and out["logits"].dtype == jnp.float32
    exact = apply(model.clone(dtype=jnp.float32), variables, images)["pooled"]
    found = out["pooled"].astype(jnp.float32)
    np.testing.assert_allclose(found, exact, atol=3e-2 * np.abs(exact).max())


@pytest.mark.parametrize("bit", [False, True])
def test_a_batch_of_any_size_can_be_exported(bit):
    model = ResNetV2((1, 1), bit=bit, stem_width=32, widths=(8, 16), num_classes=3)
    (count,) = jax.export.symbolic_shape("count")
    images = jax.ShapeDtypeStruct((count, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    exported = jax.export.export(jax.jit(model.apply))(variables, images)
    assert str(exported.out_avals[0].shape[0]) == "count"
