"""Networks with XLA's own convolutions: what they compute, without the forms that are faster."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import jax
import jax.numpy as jnp
from jax import lax

from tl.models import layers, registry


@contextlib.contextmanager
def native_convolutions() -> Iterator[None]:
    """Within it, models are traced with XLA's own convolution, as Flax gives it to anybody."""
    with mock.patch.object(layers, "conv", lax.conv_general_dilated):
        yield


def forward_flops(backbone: str, size: int) -> float:
    """Returns the floating-point operations of one image's features, a product and a sum being two.

    Counted by XLA of native convolutions: other forms of them do other work for the same result.
    """
    model = registry.build(backbone, num_classes=0)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    with native_convolutions():
        lowered = jax.jit(lambda v, x: model.apply(v, x)["pooled"]).lower(variables, images)
    return lowered.cost_analysis()["flops"]
