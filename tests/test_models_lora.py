import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import random_variables
from tl import tree
from tl.errors import UserError
from tl.models import lora, registry

PARAMS = {
    "stem": {"conv": {"kernel": np.ones((3, 3, 2, 4), np.float32)}},
    "block1": {"fc": {"kernel": np.ones((5, 3), np.float32), "bias": np.zeros(3, np.float32)}},
    "head": {"kernel": np.ones((4, 6), np.float32), "bias": np.zeros(6, np.float32)},
}


def test_the_matrices_stand_beside_the_kernels():
    flat = tree.leaves(lora.added(PARAMS, ("*",), 2, seed=0))
    new = {path: flat[path].shape for path in flat if lora.is_matrix(path)}
    assert new == {
        "block1/fc/lora_a": (5, 2),
        "block1/fc/lora_b": (2, 3),
        "stem/conv/lora_a": (18, 2),  # 3 x 3 x 2 values for an output
        "stem/conv/lora_b": (2, 4),
    }
    assert flat["stem/conv/lora_a"].std() == pytest.approx(1 / np.sqrt(18), rel=0.3)
    assert not flat["stem/conv/lora_b"].any()


def test_a_merged_kernel_by_hand():
    params = lora.added(PARAMS, ("block1",), 1, seed=0)
    params["block1"]["fc"] |= {
        "lora_a": np.float32([[1], [2], [0], [0], [-1]]),
        "lora_b": np.float32([[1, 0, 10]]),
    }
    merged = lora.merged(params)
    expected = [[2, 1, 11], [3, 1, 21], [1, 1, 1], [1, 1, 1], [0, 1, -9]]
    np.testing.assert_array_equal(merged["block1"]["fc"]["kernel"], np.float32(expected))
    assert tree.leaves(merged).keys() == tree.leaves(PARAMS).keys()
    of_jax = lora.merged(jax.tree.map(jnp.asarray, params))
    np.testing.assert_array_equal(of_jax["block1"]["fc"]["kernel"], np.float32(expected))


def test_a_convolution_adapted_by_all_its_rank_is_any_convolution():
    """The product's order of values is the kernel's: the network computes with the sum."""
    rng = np.random.default_rng(0)
    params = lora.added(PARAMS, ("stem",), 3, seed=0)
    conv = params["stem"]["conv"]
    conv["lora_b"] = rng.normal(size=(3, 4)).astype(np.float32)
    added = (conv["lora_a"] @ conv["lora_b"]).reshape(3, 3, 2, 4)
    x = rng.normal(size=(1, 5, 5, 2)).astype(np.float32)

    def convolved(kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    merged = lora.merged(params)["stem"]["conv"]["kernel"]
    both = convolved(PARAMS["stem"]["conv"]["kernel"]) + convolved(added)
    np.testing.assert_allclose(convolved(merged), both, atol=1e-4)


def test_a_network_starts_as_it_was():
    model = registry.build("vit_tiny_patch16", num_classes=2, grid=2)
    params = random_variables(model, size=32)["params"]
    merged = lora.merged(lora.added(jax.device_get(params), ("*/attn", "*/mlp"), 4, seed=1))
    assert jax.tree.all(jax.tree.map(np.array_equal, merged, jax.device_get(params)))


@pytest.mark.parametrize(
    ("patterns", "rank", "message"),
    [
        (("block2",), 1, r"^train.lora: 'block2' matches no parameter"),
        (("head",), 1, r"^train.lora: 'head' matches no parameter"),
        (("block1",), 3, r"^train.lora_rank: block1/fc/kernel is a matrix of 5 x 3; .* below 3"),
    ],
)
def test_what_cannot_be_adapted_is_refused(patterns, rank, message):
    with pytest.raises(UserError, match=message):
        lora.added(PARAMS, patterns, rank, seed=0)
