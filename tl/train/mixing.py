"""MixUp and CutMix of a batch on the device, with the soft targets that they need."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Mixing:
    """How a batch is mixed. With both methods on, a fair coin chooses one for each batch.

    Attributes:
      mixup: alpha of MixUp's Beta(alpha, alpha) distribution, 0 for off (arXiv:1710.09412).
      cutmix: alpha of CutMix's Beta(alpha, alpha) distribution, 0 for off (arXiv:1905.04899).

    Raises:
      UserError: an alpha that is negative or not finite.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            alpha = getattr(self, name)
            if not 0 <= alpha < math.inf:
                raise UserError(
                    f"expected the alpha of a Beta distribution, above 0, or 0 for off; got "
                    f"{alpha}",
                    field=f"augment.{name}",
                )

    @property
    def active(self) -> bool:
        """Whether batches are mixed at all."""
        return self.mixup > 0 or self.cutmix > 0


def one_hot_targets(
    labels: Int[Array, " n"], num_classes: int, smoothing: float = 0.0
) -> Float[Array, "n k"]:
    """Returns labels as distributions over the classes.

    >>> one_hot_targets(jnp.array([1, -1]), 2, 0.5).tolist()
    [[0.25, 0.75], [0.0, 0.0]]

    Args:
      labels: int32 [N], in [0, num_classes), or -1 for padding, which gives zeros.
      num_classes: K.
      smoothing: the share in [0, 1) that is spread evenly over all K classes, the label's class
        included.

    Returns:
      float32 [N, K]. A row adds up to 1 or, for padding, to 0.

    Raises:
      UserError: a smoothing outside [0, 1).
    """
    if not 0 <= smoothing < 1:
        raise UserError(
            f"expected a share in [0, 1), got {smoothing}", field="train.label_smoothing"
        )
    one_hot = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    smooth = (1.0 - smoothing) * one_hot + smoothing / num_classes
    return jnp.where(labels[:, None] < 0, 0.0, smooth)


def mix(
    images: Float[Array, "n ..."], targets: Float[Array, "n k"], key: Key[Array, ""], mixing: Mixing
) -> tuple[Float[Array, "n ..."], Float[Array, "n k"]]:
    """Returns a batch mixed with itself in reversed order.

    Every example of the batch keeps the same share of itself, as in the code of both papers.

    Args:
      images: float [N, H, W, C]; of any shape if nothing is mixed.
      targets: float32 [N, K].
      key: of all random draws.
      mixing: how to mix; static under `jit`.

    Returns:
      (images, targets), each share * own + (1 - share) * partner's, in the types they came in.
    """
    if not mixing.active:
        return images, targets
    coin_key, share_key, box_key = jax.random.split(key, 3)
    both = mixing.mixup > 0 and mixing.cutmix > 0
    cut = jax.random.bernoulli(coin_key) if both else jnp.asarray(mixing.cutmix > 0)
    alpha = jnp.where(cut, mixing.cutmix, mixing.mixup)
    share = jax.random.beta(share_key, alpha, alpha)
    _, height, width, _ = images.shape
    outside = _outside_box(box_key, share, (height, width))
    pixels = jnp.where(cut, outside, share)[:, :, None]
    return _blend(images, pixels), _blend(targets, jnp.where(cut, outside.mean(), share))


def _blend(values: jax.Array, share: jax.Array) -> jax.Array:
    share = share.astype(values.dtype)
    return share * values + (1 - share) * values[::-1]


def _outside_box(key: jax.Array, share: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Returns CutMix's mask, float32 [H, W]: 0 in a box around a random pixel, 1 outside.

    The box covers 1 - `share` of the image's area, rounded to whole pixels. The part of it beyond
    the image's edges is lost.
    """
    side = jnp.sqrt(1.0 - share)
    inside = []
    for length, centre_key in zip(shape, jax.random.split(key)):
        half = jnp.floor(length * side).astype(jnp.int32) // 2
        offset = jnp.arange(length) - jax.random.randint(centre_key, (), 0, length)
        inside.append((-half <= offset) & (offset < half))
    return 1.0 - (inside[0][:, None] & inside[1]).astype(jnp.float32)
