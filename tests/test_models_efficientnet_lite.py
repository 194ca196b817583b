import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import random_variables
from tl.models.efficientnet_lite import EfficientNetLite


def test_shapes_and_counts():
    model = EfficientNetLite()
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    # The counts of the published file: 149 trainable tensors, 98 statistics.
    params, stats = (jax.tree.leaves(variables[k]) for k in ("params", "batch_stats"))
    assert (len(params), len(stats)) == (149, 98)
    assert sum(p.size for p in params) == 4_652_008
    assert sum(s.size for s in stats) == 42_016
    out = jax.eval_shape(model.apply, variables, jnp.zeros((2, 65, 97, 3)))
    assert out["stem"].shape == (2, 33, 49, 32)
    assert out["stage1"].shape == (2, 33, 49, 16)
    assert out["stage5"].shape == (2, 5, 7, 112)
    assert out["stage7"].shape == (2, 3, 4, 320)
    assert out["pooled"].shape == (2, 1280)
    assert out["logits"].shape == (2, 1000)


def test_activations_are_clipped_at_six():
    model = EfficientNetLite(num_classes=0)
    images = 100 * jax.random.normal(jax.random.key(1), (1, 32, 32, 3))
    variables = random_variables(model)
    stem = jax.jit(lambda variables, images: model.apply(variables, images, stop="stem"))(
        variables, images
    )["stem"]
    assert float(stem.min()) == 0.0
    np.testing.assert_allclose(stem.max(), 6.0)


ENDPOINTS = ("stem", *(f"stage{i}" for i in range(1, 8)), "pooled")


@pytest.mark.slow  # tests/test_models_registry.py has it too
def test_from_every_endpoint_on_the_logits_are_the_same():
    model = EfficientNetLite(num_classes=5)
    variables = random_variables(model)

    @jax.jit
    def both(variables, images):
        whole = model.apply(variables, images)
        rests = {name: model.apply(variables, whole[name], start=name) for name in ENDPOINTS}
        assert all(
            set(rest) == {*ENDPOINTS[i + 1 :], "logits"} for i, rest in enumerate(rests.values())
        )
        return whole["logits"], {name: rest["logits"] for name, rest in rests.items()}

    logits, rests = both(variables, jax.random.normal(jax.random.key(1), (2, 32, 32, 3)))
    assert len(rests) == 9 and np.ptp(logits) > 1e-3
    for name, found in rests.items():
        np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5, err_msg=name)


def test_logits_are_float32_in_bfloat16_and_all_statistics_come_back():
    model = EfficientNetLite(num_classes=5, dropout=0.2, dtype=jnp.bfloat16)
    images = jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def step(variables, values, key):
        return model.apply(
            variables, values, train=frozenset({"top"}), start="stage7",
            rngs={"dropout": key}, mutable=["batch_stats"],
        )  # fmt: skip

    values = jax.ShapeDtypeStruct((2, 1, 1, 320), jnp.bfloat16)
    out, updated = jax.eval_shape(step, variables, values, jax.random.key(0))
    assert out["logits"].dtype == jnp.float32 and out["pooled"].dtype == jnp.bfloat16
    assert jax.tree.structure(updated["batch_stats"]) == jax.tree.structure(
        variables["batch_stats"]
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
