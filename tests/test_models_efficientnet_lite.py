import jax
import jax.numpy as jnp
import numpy as np

from tests.networks import random_variables
from tl.models.efficientnet_lite import EfficientNetLite0


def test_shapes_and_counts():
    model = EfficientNetLite0()
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
    model = EfficientNetLite0(num_classes=0)
    images = 100 * jax.random.normal(jax.random.key(1), (1, 32, 32, 3))
    variables = random_variables(model)
    stem = jax.jit(model.apply)(variables, images)["stem"]
    assert float(stem.min()) == 0.0
    np.testing.assert_allclose(stem.max(), 6.0)
