"""MixUp and CutMix of a batch on the device, and the soft targets that they mix."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from tl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Mixing:
    """How a batch is mixed; with both, a fair coin decides for each batch.

    Attributes:
      mixup: alpha of MixUp's Beta(alpha, alpha), 0 for off (arXiv:1710.09412).
      cutmix: alpha of CutMix's, 0 for off (arXiv:1905.04899).
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        for field in ("mixup", "cutmix"):
            alpha = getattr(self, field)
            if not 0 <= alpha < math.inf:
                raise UserError(
                    f"expected --config.augment.{field} to be the alpha of a Beta distribution, "
                    f"above 0, or 0 for off; got {alpha}"
                )

    @property
    def active(self) -> bool:
        """Whether anything is mixed."""
        return self.mixup > 0 or self.cutmix > 0


def one_hot_targets(labels: jax.Array, num_classes: int, smoothing: float = 0.0) -> jax.Array:
    """Returns the distribution over classes that a label stands for.

    >>> one_hot_targets(jnp.array([1, -1]), 2, 0.5).tolist()
    [[0.25, 0.75], [0.0, 0.0]]

    Args:
      labels: int32 [N], in [0, num_classes); -1, which is padding, gives zeros.
      num_classes: K.
      smoothing: the share that is spread evenly over all K classes, the right one among them,
        in [0, 1).

    Returns:
      float32 [N, K], rows that add up to 1 or, for padding, to 0.

    Raises:
      UserError: a smoothing outside [0, 1).
    """
    if not 0 <= smoothing < 1:
        raise UserError(f"expected --config.train.label_smoothing to be in [0, 1); got {smoothing}")
    one_hot = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    smooth = (1.0 - smoothing) * one_hot + smoothing / num_classes
    return jnp.where(labels[:, None] < 0, 0.0, smooth)


def mix(
    images: jax.Array, targets: jax.Array, key: jax.Array, mixing: Mixing
) -> tuple[jax.Array, jax.Array]:
    """Returns a batch mixed with itself in reversed order; to be jitted with `mixing` static.

    Every example keeps the same share of itself, as in the papers' own code.

    Args:
      images: float [N, H, W, C].
      targets: float32 [N, K].
      key: of every draw.
      mixing: how.

    Returns:
      images and targets, each share * own + (1 - share) * partner's; the types stay.
    """
    if not mixing.active:
        return images, targets
    coin_key, share_key, box_key = jax.random.split(key, 3)
    cut = bool(mixing.cutmix)
    if mixing.mixup and mixing.cutmix:
        cut = jax.random.bernoulli(coin_key)
    alpha = jnp.where(cut, mixing.cutmix, mixing.mixup)
    share = jax.random.beta(share_key, alpha, alpha)
    outside = _outside_box(box_key, share, images.shape[1:3])
    pixels = jnp.where(cut, outside, share)[:, :, None]
    return _blend(images, pixels), _blend(targets, jnp.where(cut, outside.mean(), share))


def _blend(values: jax.Array, share: jax.Array) -> jax.Array:
    share = share.astype(values.dtype)
    return share * values + (1 - share) * values[::-1]


def _outside_box(key: jax.Array, share: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Returns CutMix's mask, float32 [H, W], 0 in a box around any pixel and 1 outside.

    The box would leave `share` of the image but for whole pixels and the edges, which cut it off.
    """
    side = jnp.sqrt(1.0 - share)
    inside = []
    for length, centre_key in zip(shape, jax.random.split(key)):
        half = jnp.floor(length * side).astype(jnp.int32) // 2
        offset = jnp.arange(length) - jax.random.randint(centre_key, (), 0, length)
        inside.append((-half <= offset) & (offset < half))
    return 1.0 - (inside[0][:, None] & inside[1]).astype(jnp.float32)
