import jax
import jax.numpy as jnp
import pytest

from tl.errors import UserError
from tl.models import registry

# Trainable values and leaves of the published checkpoints.
COUNTS = {
    "resnet18": (11_689_512, 102),
    "resnet34": (21_797_672, 182),
    "resnet50": (25_557_032, 267),
    "resnet101": (44_549_160, 522),
    "resnet152": (60_192_808, 777),
    "efficientnet_lite0": (4_652_008, 247),
}


def test_every_backbone_is_counted():
    assert set(registry.names()) == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_widths(name):
    model = registry.build(name)
    images = jnp.zeros((1, 64, 64, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert sum(p.size for p in jax.tree.leaves(variables["params"])) == COUNTS[name][0]
    assert len(jax.tree.leaves(variables)) == COUNTS[name][1]
    out = jax.eval_shape(model.apply, variables, images)
    backbone = registry.get(name)
    assert set(out) == set(backbone.endpoints)  # eval_shape sorts the keys
    assert {k: v.shape[-1] for k, v in out.items()} == {**backbone.widths, "logits": 1000}
    assert out[backbone.endpoints[-3]].shape[1:3] == (64 // backbone.stride,) * 2


def test_arguments_reach_the_module():
    model = registry.build("resnet50", num_classes=3, stride_in="1x1", norm_epsilon=1e-3)
    assert (model.num_classes, model.stride_in, model.norm_epsilon) == (3, "1x1", 1e-3)


def test_unknown_name_lists_the_near_ones():
    with pytest.raises(UserError, match=r"'resnet5'; the nearest are .*'resnet50'"):
        registry.get("resnet5")
