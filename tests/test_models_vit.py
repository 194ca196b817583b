import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import random_variables
from tl.models import registry, vit
from tl.models.vit import VisionTransformer, resize_positions

GOLDEN = pathlib.Path(__file__).parent / "golden"


def tiny(**arguments):
    sizes = {"width": 12, "depth": 2, "heads": 3, "patch": 4, "grid": 4, "num_classes": 5}
    return VisionTransformer(**{**sizes, **arguments})


def outputs(model, images, seed=0):
    variables = random_variables(model, seed, size=16)
    return jax.jit(model.apply)(variables, images), variables["params"]


def noise(*shape):
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def test_shapes():
    images = noise(2, 12, 20, 3)  # 3 x 5 patches
    for arguments, leading in (({}, 1), ({"registers": 3, "cls_position": False}, 4)):
        found, _ = outputs(tiny(**arguments), images)
        assert list(found) == ["block1", "block2", "embed", "logits", "pooled"]  # as jit sorts them
        assert found["embed"].shape == found["block2"].shape == (2, 15 + leading, 12)
        assert (found["pooled"].shape, found["logits"].shape) == ((2, 12), (2, 5))
    assert "logits" not in outputs(tiny(num_classes=0), images)[0]


def test_the_tokens_of_a_flat_image_worked_by_hand():
    model = tiny(registers=1)
    found, params = outputs(model, np.full((1, 16, 16, 3), 0.5, np.float32))
    embed = params["embed"]
    patch = embed["patch"]["bias"] + 0.5 * embed["patch"]["kernel"].sum((0, 1, 2))
    table = embed["positions"][0]
    tokens = found["embed"][0]
    np.testing.assert_allclose(tokens[0], embed["cls"][0, 0] + table[0], rtol=1e-5)
    np.testing.assert_allclose(tokens[1], embed["registers"][0, 0], rtol=1e-5)  # has no position
    np.testing.assert_allclose(tokens[2:], patch + table[1:], rtol=1e-4, atol=1e-5)


def test_a_block_worked_by_hand():
    found, params = outputs(tiny(layer_scale=True), noise(1, 16, 16, 3))

    def normed(x, p):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p["scale"] + p["bias"]

    def dense(x, p):
        return x @ np.asarray(p["kernel"], np.float64) + p["bias"]

    block, x = params["block1"], np.asarray(found["embed"][0], np.float64)
    qkv = dense(normed(x, block["norm1"]), block["attn"]["qkv"])
    heads = []
    for head in range(3):
        q, k, v = (qkv[:, part * 12 + head * 4 :][:, :4] for part in range(3))
        weights = np.exp(q @ k.T / 2)  # the square root of a head's four features
        heads.append(weights / weights.sum(-1, keepdims=True) @ v)
    x = x + block["ls1"]["gamma"] * dense(np.concatenate(heads, -1), block["attn"]["proj"])
    hidden = dense(normed(x, block["norm2"]), block["mlp"]["fc1"])
    hidden = np.asarray(jax.scipy.stats.norm.cdf(hidden)) * hidden
    x = x + block["ls2"]["gamma"] * dense(hidden, block["mlp"]["fc2"])
    np.testing.assert_allclose(found["block1"][0], x, rtol=1e-4, atol=1e-5)


def test_pooled_is_the_normalised_class_token():
    found, params = outputs(tiny(norm_epsilon=0.5), noise(2, 16, 16, 3))
    cls, norm = np.asarray(found["block2"][:, 0]), params["pooled"]["norm"]
    normed = (cls - cls.mean(-1, keepdims=True)) / np.sqrt(cls.var(-1, keepdims=True) + 0.5)
    np.testing.assert_allclose(found["pooled"], normed * norm["scale"] + norm["bias"], rtol=1e-4)


def test_pooling_by_attention_worked_by_hand():
    sizes = {"cls": False, "cls_position": False, "pool": "attention", "norm_epsilon": 0.5}
    found, params = outputs(tiny(depth=1, heads=1, **sizes), noise(1, 16, 16, 3))
    pool, tokens = params["pooled"], np.asarray(found["block1"][0], np.float64)
    assert tokens.shape == (16, 12)  # of the patches alone

    def normed(x, p):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.5)
        return x * p["scale"] + p["bias"]

    def dense(x, p):
        return x @ np.asarray(p["kernel"], np.float64) + p["bias"]

    query = dense(pool["probe"][0, 0], pool["attn"]["qkv"])[:12]
    keys, values = np.split(dense(normed(tokens, pool["norm"]), pool["attn"]["qkv"])[:, 12:], 2, 1)
    weights = np.exp(keys @ query / np.sqrt(12))
    y = dense(weights / weights.sum() @ values, pool["attn"]["proj"])
    hidden = dense(normed(y, pool["norm2"]), pool["mlp"]["fc1"])
    y = y + dense(np.asarray(jax.scipy.stats.norm.cdf(hidden)) * hidden, pool["mlp"]["fc2"])
    np.testing.assert_allclose(found["pooled"][0], y, rtol=1e-4, atol=1e-5)


def test_a_pre_normalised_network_has_no_bias_of_patches():
    found, params = outputs(tiny(pre_norm=True), noise(1, 16, 16, 3))
    assert set(params["embed"]["patch"]) == {"kernel"}
    tokens = (found["embed"] - params["embed"]["norm"]["bias"]) / params["embed"]["norm"]["scale"]
    np.testing.assert_allclose(tokens.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(tokens.var(-1), 1, rtol=1e-3)


@pytest.mark.parametrize("how", vit.RESIZES)
@pytest.mark.parametrize("shape", [(4, 4), (5, 9), (10, 7)])
def test_positions_of_other_sizes_are_the_sources_own(how, shape):
    with np.load(GOLDEN / "positions.npz") as golden:
        table, expected = golden["table"], golden["{}/{}x{}".format(how, *shape)]
        others = [golden["{}/{}x{}".format(o, *shape)] for o in vit.RESIZES if o != how]
    found = jax.jit(lambda table: resize_positions(table, shape, how))(table)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert min(np.max(np.abs(found - other)) for other in others) > 0.03


def test_positions_that_fit_stay():
    table = jnp.asarray(noise(1, 9, 2))
    for how in vit.RESIZES:
        assert resize_positions(table, (3, 3), how) is table


def test_positions_learn_at_another_size():
    model = tiny(num_classes=0)
    variables = random_variables(model, size=16)
    images = noise(1, 8, 8, 3)

    def loss(variables):
        return jnp.sum(model.apply(variables, images)["pooled"] ** 3)

    gradient = jax.jit(jax.grad(loss))(variables)["params"]["embed"]["positions"]
    assert gradient.shape == (1, 17, 12) and np.all(np.abs(gradient).sum(-1) > 0)


def test_logits_are_float32_in_bfloat16():
    model = tiny(dtype=jnp.bfloat16)
    found, _ = outputs(model, noise(2, 16, 16, 3))
    assert found["block1"].dtype == found["pooled"].dtype == jnp.bfloat16
    assert found["logits"].dtype == jnp.float32


def test_other_activations_and_ways_to_resize_are_refused():
    for name, known in (("activation", "'gelu'"), ("resize", "'antialias'"), ("pool", "'cls'")):
        arguments = {name: "other"}
        with pytest.raises(ValueError, match=rf"expected one of \({known}, .*got 'other'"):
            jax.eval_shape(tiny(**arguments).init, jax.random.key(0), noise(1, 16, 16, 3))


def test_sizes_of_the_named_networks():
    for name in registry.names():
        backbone = registry.get(name)
        if backbone.module is VisionTransformer:
            assert f"_patch{backbone.multiple}" in name
            assert backbone.arguments["grid"] == (518 if "14" in name else 224) // backbone.multiple
            leading = {"reg4": 5, "siglip": 0}.get(name.rpartition("_")[2], 1)
            assert backbone.outputs["block12"].leading == leading


def test_a_batch_of_any_size_can_be_exported():
    model = tiny(registers=1)
    (count,) = jax.export.symbolic_shape("count")
    images = jax.ShapeDtypeStruct((count, 8, 12, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), noise(1, 16, 16, 3))
    exported = jax.export.export(jax.jit(model.apply))(variables, images)
    assert str(exported.out_avals[0].shape[0]) == "count"


def test_stochastic_depth_leaves_out_more_of_later_blocks():
    model = tiny(depth=3, drop_path=0.6)
    variables = random_variables(model, size=16)
    images = jnp.broadcast_to(noise(1, 16, 16, 3), (500, 16, 16, 3))
    found = jax.jit(model.apply)(variables, images, rngs={"dropout": jax.random.key(0)})
    embed, *blocks = (np.asarray(found[name]) for name in ("embed", "block1", "block2", "block3"))
    assert np.any(embed != blocks[0]) and np.all(blocks[0] == blocks[0][:1])  # a rate of 0
    for before, after, rate in ((blocks[0], blocks[1], 0.3), (blocks[1], blocks[2], 0.6)):
        neither = np.all(before == after, axis=(1, 2)).mean()  # attention nor MLP
        assert neither == pytest.approx(rate**2, abs=0.06)  # three standard deviations
    kinds = {value.tobytes() for value in blocks[1]}
    assert len(kinds) == 4  # attention and MLP are left out each by itself
    plain = jax.jit(tiny(depth=3).apply)(variables, images[:1])
    found = jax.jit(model.apply)(variables, images[:1])
    np.testing.assert_array_equal(found["logits"], plain["logits"])
