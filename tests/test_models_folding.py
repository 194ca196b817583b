import jax
import numpy as np
import pytest

from tests.networks import random_variables, tiny_resnet
from tl.models.efficientnet_lite import EfficientNetLite
from tl.models.folding import fold_batch_norm
from tl.models.resnet_v2 import ResNetV2


def test_by_hand():
    variables = {
        "params": {
            "unit": {
                "conv": {"kernel": np.full((1, 1, 1, 1), 2.0, np.float32)},
                "bn": {"scale": np.array([4.0]), "bias": np.array([0.5])},
            },
            "alone": {"bn": {"scale": np.array([4.0]), "bias": np.array([0.5])}},
            "head": {"kernel": np.ones((1, 1))},
        },
        "batch_stats": {
            "unit": {"bn": {"mean": np.array([2.0]), "var": np.array([3.0])}},
            "alone": {"bn": {"mean": np.array([2.0]), "var": np.array([3.0])}},
        },
    }
    folded = fold_batch_norm(variables, 1.0)["params"]
    # s = 4 / sqrt(3 + 1) = 2: kernel 2 * 2, bias 0.5 - 2 * 2.
    assert folded["unit"] == {"conv": {"kernel": [[[[4.0]]]], "bias": [-3.5]}}
    assert folded["alone"] == {"scale": [2.0], "bias": [-3.5]}
    assert folded["head"] is variables["params"]["head"]


@pytest.mark.parametrize(
    "model",
    [
        tiny_resnet(),
        tiny_resnet(groups=2, base_width=32, deep_stem=True, pooled_shortcut=True),
        ResNetV2((1, 1), widths=(8, 16), stem_width=8, num_classes=7),
        EfficientNetLite((1, 2, 1, 1, 1, 1, 1), num_classes=7),
    ],
    ids=["resnet", "relative", "v2", "lite"],
)
def test_same_outputs(model):
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    variables = random_variables(model)
    expected = jax.jit(model.apply)(variables, images)
    folded = fold_batch_norm(variables, model.norm_epsilon)
    got = jax.jit(model.clone(folded=True).apply)(folded, images)
    for name in expected:
        error = np.abs(got[name] - expected[name]).max() / np.abs(expected[name]).max()
        assert error < 1e-5, (name, error)
