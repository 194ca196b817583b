import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import random_variables
from tl.models import convnext, registry
from tl.models.convnext import ConvNeXt, ResponseNorm
from tl.weights import convert

EPSILONS = {"norm_epsilon": 0.02, "pooled_epsilon": 0.5}  # large, so that they tell


def tiny(**arguments):
    sizes = {"stage_sizes": (1, 1), "widths": (4, 6), "num_classes": 5}
    return ConvNeXt(**{**sizes, **EPSILONS, **arguments})


# With rests that are left out: 9 x 12 patches, of which the second stage has 4 x 6.
IMAGES = np.random.default_rng(1).normal(size=(2, 37, 50, 3)).astype(np.float32)


def normed(x, p, epsilon=EPSILONS["norm_epsilon"]):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * p["scale"] + p["bias"]


def dense(x, p):
    return x @ np.asarray(p["kernel"], np.float64) + p["bias"]


def patches(x, p, side):
    """A convolution whose stride is its side: a dense layer on what lies in each square."""
    rows, columns = (n // side for n in x.shape[1:3])
    x = x[:, : rows * side, : columns * side].reshape(len(x), rows, side, columns, side, -1)
    kernel = np.asarray(p["kernel"], np.float64)
    return np.einsum("nrackb,acbf->nrkf", x.transpose(0, 1, 2, 4, 3, 5), kernel) + p["bias"]


def block(x, p):
    """One block in plain NumPy, of V1 if it has `gamma`, else of V2."""
    if "downsample" in p:
        x = patches(normed(x, p["downsample"]["norm"]), p["downsample"]["conv"], 2)
    rows, columns = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    kernel = np.asarray(p["depthwise"]["kernel"], np.float64)
    y = p["depthwise"]["bias"] + sum(
        padded[:, i : i + rows, j : j + columns] * kernel[i, j, 0]
        for i in range(7)
        for j in range(7)
    )
    y = dense(normed(y, p["norm"]), p["fc1"])
    y = y * (1 + np.vectorize(math.erf)(y / math.sqrt(2))) / 2
    if "grn" in p:
        norms = np.sqrt((y**2).sum((1, 2), keepdims=True))
        response = norms / (norms.mean(-1, keepdims=True) + 1e-6)
        y = y + p["grn"]["scale"] * response * y + p["grn"]["bias"]
    y = dense(y, p["fc2"])
    return x + y * p.get("gamma", 1)


@pytest.mark.parametrize("grn", [False, True])
def test_every_endpoint_worked_by_hand(grn):
    # V1 has one stage here: it differs within a block.
    model = tiny(grn=True) if grn else tiny(stage_sizes=(1,), widths=(4,))
    variables = random_variables(model)
    params = variables["params"]
    found = jax.jit(model.apply)(variables, IMAGES)
    assert ("grn" in params["stage1"]["block1"]) == grn
    x = np.asarray(IMAGES, np.float64)
    x = normed(patches(x, params["stem"]["conv"], 4), params["stem"]["norm"])
    expected = {"stem": x}
    for stage in ("stage1", "stage2") if grn else ("stage1",):
        expected[stage] = x = block(x, params[stage]["block1"])
    mean = x.mean((1, 2))
    expected["pooled"] = normed(mean, params["pooled"]["norm"], EPSILONS["pooled_epsilon"])
    expected["logits"] = dense(expected["pooled"], params["head"])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-5)
    assert x.shape == ((2, 4, 6, 6) if grn else (2, 9, 12, 4))


def response(x):
    parameters = {"scale": jnp.array([10.0, 10.0]), "bias": jnp.array([1.0, 2.0])}
    return ResponseNorm(jnp.float32).apply({"params": parameters}, x)


def test_a_response_worked_by_hand():
    # Norms 5 and 0, of mean 2.5: responses 2 and 0. The second image has norms 1 and 1.
    x = jnp.array([[[[3.0, 0.0], [4.0, 0.0]]], [[[1.0, 0.0], [0.0, -1.0]]]])
    expected = [[[[64, 2], [85, 2]]], [[[12, 2], [1, -9]]]]
    np.testing.assert_allclose(response(x), expected, rtol=1e-4)


def test_a_silent_channel_has_a_gradient():
    for x in (jnp.array([[[[3.0, 0.0], [4.0, 0.0]]]]), jnp.zeros((1, 2, 2, 2))):
        assert np.all(np.isfinite(jax.jit(jax.grad(lambda x: response(x).sum()))(x)))


def test_logits_are_float32_in_bfloat16():
    model = tiny(grn=True, dtype=jnp.bfloat16)
    found = jax.eval_shape(model.apply, convert.shapes(model), IMAGES)
    types = {name: value.dtype.name for name, value in found.items()}
    maps = dict.fromkeys(("stem", "stage1", "stage2", "pooled"), "bfloat16")
    assert types == {**maps, "logits": "float32"}


def test_sizes_of_the_named_networks():
    assert ConvNeXt.norm_epsilon == ConvNeXt.pooled_epsilon == 1e-6
    sizes = {"tiny": (96, 9), "small": (96, 27), "base": (128, 27)}
    for name in registry.names():
        backbone = registry.get(name)
        if backbone.module is ConvNeXt:
            width, depth = sizes[name.split("_")[1]]
            assert backbone.arguments["widths"] == (width, 2 * width, 4 * width, 8 * width)
            assert backbone.arguments["stage_sizes"] == (3, 3, depth, 3)
            assert backbone.arguments["grn"] == name.startswith("convnextv2")


def test_a_batch_of_any_size_can_be_exported():
    model = tiny(grn=True)
    (count,) = jax.export.symbolic_shape("count")
    images = jax.ShapeDtypeStruct((count, 16, 16, 3), jnp.float32)
    variables = convert.shapes(model)
    exported = jax.export.export(jax.jit(model.apply))(variables, images)
    assert str(exported.out_avals[0].shape[0]) == "count"


def test_stochastic_depth_grows_over_all_stages(monkeypatch):
    seen = []
    monkeypatch.setattr(
        convnext.DropPath, "__call__", lambda self, added: seen.append(self.rate) or added
    )
    model = ConvNeXt((1, 1, 3, 1), (4, 4, 4, 4), num_classes=0, drop_path=0.5)
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert seen == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])  # and the first has 0
