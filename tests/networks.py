"""Small networks with every variable random, batch statistics too; compiling `init` is slow."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl.models import registry
from tl.models.resnet import ResNet
from tl.weights import convert


def tiny_resnet(**arguments) -> ResNet:
    defaults = {
        "stage_sizes": (2, 1, 1, 1),
        "stem_width": 4,
        "widths": (4, 5, 6, 7),
        "num_classes": 7,
    }
    return ResNet(**{**defaults, **arguments})


def random_variables(model, seed=0, size=32):
    """Returns variables of `model` with scales about 1 and nothing at its initial value."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        name = path[-1].key
        if name == "kernel":
            value = rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape)
        elif name in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, leaf.shape)
        else:  # bias and mean
            value = rng.normal(0, 0.2, leaf.shape)
        return jnp.asarray(value.astype(leaf.dtype))  # not a program for each shape

    shapes = convert.shapes(model, size)
    return jax.tree_util.tree_map_with_path(fill, shapes)


@contextlib.contextmanager
def shallow(name: str):
    """Within it, a network of the registry has two blocks in one place, and one elsewhere.

    It is sooner compiled, and has all kinds of blocks that it had.
    """
    backbone = registry.get(name)
    arguments = dict(backbone.arguments)
    if "depth" in arguments:  # a vision transformer
        arguments["depth"] = 2
        kept = {"block1", "block2"}
    else:
        sizes = [2 if stage == 1 else 1 for stage in range(len(arguments["stage_sizes"]))]
        arguments["stage_sizes"] = tuple(sizes)
        kept = {f"stage{i + 1}/block{j + 1}" for i, size in enumerate(sizes) for j in range(size)}
    left_out = {layer for layer in backbone.layers if "block" in layer} - kept
    few = dataclasses.replace(
        backbone,
        arguments=arguments,
        outputs={key: output for key, output in backbone.outputs.items() if key not in left_out},
        layers=[layer for layer in backbone.layers if layer not in left_out],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BACKBONES, name, few)
        yield
