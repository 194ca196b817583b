"""Networks of Flax's own layers: what ours compute, without the forms that are faster."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from tl.models import convnext, layers, registry, resnet, resnet_v2
from tl.models.backbone import FINAL, Network


class BatchNorm(nn.BatchNorm):
    """Flax's, which in bfloat16 relies on JAX's standard type promotion."""

    @nn.compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `nn.BatchNorm`."""
        with jax.numpy_dtype_promotion("standard"):
            return super().__call__(*args, **kwargs)


@contextlib.contextmanager
def plain_layers() -> Iterator[None]:
    """Within it, models are traced as anybody's are: Flax's layers on XLA's own convolution."""

    def max_pool(x: jax.Array, window: tuple, strides: tuple, pads: tuple) -> jax.Array:
        return nn.max_pool(x, window, strides, padding=pads)

    with (
        mock.patch.object(layers, "conv", lax.conv_general_dilated),
        mock.patch.object(resnet_v2, "conv", lax.conv_general_dilated),
        mock.patch.object(convnext, "conv", lax.conv_general_dilated),
        mock.patch.object(layers, "BatchNorm", BatchNorm),
        mock.patch.object(resnet, "max_pool", max_pool),
    ):
        yield


def forward_flops(backbone: str, size: int) -> float:
    """Returns the floating-point operations of one image's features, a product and a sum being two.

    Counted by XLA of its own convolutions: other forms of them do other work for the same result.
    """
    model = registry.build(backbone, num_classes=0)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    with plain_layers():
        lowered = jax.jit(pooled, static_argnums=0).lower(model, variables, images)
    return (lowered.cost_analysis() or {})["flops"]


def pooled(model: Network, variables: Any, images: jax.Array) -> jax.Array:
    """Returns the pooled features of a batch."""
    outputs = model.apply(variables, images)
    return outputs[FINAL]
