"""Small networks with every variable random, batch statistics too; compiling `init` is slow."""

import jax
import jax.numpy as jnp
import numpy as np

from tl.models.resnet import ResNet


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

    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    return jax.tree_util.tree_map_with_path(fill, shapes)
