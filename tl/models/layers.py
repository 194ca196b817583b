"""Building blocks of the backbones: convolution with normalisation, stages, the head."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tl.models.cpu.batch_norm import BatchNorm
from tl.models.cpu.lowering import conv

# Which ConvBN modules normalise by the batch's statistics and update the running ones: all (True),
# none (False), or those with these paths, such as `stage1/block1/conv1`.
Train = bool | frozenset[str]


class ConvBN(nn.Module):
    """Convolution without bias, then batch normalisation; or both folded into one convolution.

    Attributes:
      features: output channels.
      kernel_size: side of the square kernel.
      stride: step of both spatial axes.
      groups: feature groups; equal to the input channels for a depthwise convolution.
      padding: `torch` pads kernel_size // 2 on every side, as PyTorch and Caffe networks do; `same`
        is TensorFlow's 'SAME', which at stride 2 pads even sizes less on the low side.
      norm_epsilon: added to the variance.
      norm_momentum: share of the old statistics kept in an update (PyTorch's 1 - momentum).
      folded: whether the normalisation is part of kernel and bias (`tl.models.folding`).
      dtype: compute type; statistics are float32 always.
      param_dtype: type of the parameters.
    """

    features: int
    kernel_size: int
    stride: int = 1
    groups: int = 1
    padding: str = "torch"
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    folded: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: Train = False
    ) -> Float[Array, "n h2 w2 {self.features}"]:
        """Maps `[N, h, w, c]` to `[N, ceil(h / stride), ceil(w / stride), features]`."""
        side = self.kernel_size // 2
        x = nn.Conv(
            self.features,
            (self.kernel_size, self.kernel_size),
            strides=self.stride,
            padding="SAME" if self.padding == "same" else [(side, side)] * 2,
            feature_group_count=self.groups,
            use_bias=self.folded,
            # He et al. 2015 with fan-out, as torchvision initialises its ResNets.
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            conv_general_dilated=conv,
            name="conv",
        )(x)
        if self.folded:
            return x
        return BatchNorm(
            momentum=self.norm_momentum,
            epsilon=self.norm_epsilon,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="bn",
        )(x, use_running_average=not by_batch(self, train))


def by_batch(module: nn.Module, train: Train) -> bool:
    """Returns whether a module that contains `bn` normalises by the batch's statistics."""
    return train if isinstance(train, bool) else "/".join(module.path) in train


class DropPath(nn.Module):
    """Leaves out what a block adds, for some examples, and grows it for the others.

    Stochastic depth, Huang et al. 2016, arXiv:1603.09382, as in timm: the mean stays. Nothing is
    left out unless `apply` is given a key `dropout`.

    Attributes:
      rate: share of the examples, in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, added: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        """Maps `[N, ...]` to the same shape: zeros, or the values divided by 1 - rate."""
        return nn.Dropout(
            self.rate,
            broadcast_dims=tuple(range(1, added.ndim)),
            deterministic=not self.has_rng("dropout"),
        )(added)


def drop_rates(last: float, blocks: int) -> tuple[float, ...]:
    """Returns the rate of each block's `DropPath`: 0 for the first, and evenly more up to the last.

    >>> drop_rates(0.4, 3)
    (0.0, 0.2, 0.4)
    """
    return tuple(last * i / max(1, blocks - 1) for i in range(blocks))


class Stage(nn.Module):
    """Blocks one after the other; the first one strides and widens.

    Attributes:
      size: number of blocks.
      stride: of the first.
      block: makes one.
      drops: rate of each block's `DropPath`; empty for blocks that have none.
    """

    size: int
    stride: int
    block: Any
    drops: Sequence[float] = ()

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: Train
    ) -> Float[Array, "n h2 w2 features"]:
        """Maps `[N, h, w, c]` to `[N, ceil(h / stride), ceil(w / stride), features]`."""
        for i in range(self.size):
            stride = self.stride if i == 0 else 1
            drop = {"drop": self.drops[i]} if self.drops else {}
            x = self.block(stride=stride, name=f"block{i + 1}", **drop)(x, train)
        return x


def rematerialised(block: type[nn.Module], remat: bool, *static: int) -> Any:
    """Returns the class of a block that keeps only its input for the backward pass, if `remat`.

    The backward pass computes again what lies inside. Names, values and random keys are the same.

    Args:
      block: class of the module.
      remat: whether it is to; otherwise the class is returned as it is.
      *static: positions of its call's arguments that are not arrays; that of the module is 0.
    """
    return nn.remat(block, static_argnums=static) if remat else block


class LayerNorm(nn.LayerNorm):
    """Flax's, computed in float32 from input of any type, which the output has again."""

    use_fast_variance: bool = False  # which would be the difference of two large numbers

    @nn.compact
    def __call__(self, x: Float[Array, "... d"], **options: Any) -> Float[Array, "... d"]:
        """Maps `[..., D]` to the same shape and type."""
        return super().__call__(x.astype(jnp.float32), **options).astype(x.dtype)


def head(backbone: nn.Module, x: Float[Array, "n d"]) -> Float[Array, "n c"]:
    """Applies dropout and a dense layer called `head`, which computes in float32.

    Args:
      backbone: the module whose compact method calls this, with its `num_classes` and `dropout`.
        Inputs are dropped only if `apply` is given a key `dropout`.
      x: float `[N, D]`.

    Returns:
      Logits, float32 `[N, backbone.num_classes]`.
    """
    x = nn.Dropout(backbone.dropout, deterministic=not backbone.has_rng("dropout"))(x)
    return nn.Dense(
        backbone.num_classes, dtype=jnp.float32, param_dtype=backbone.param_dtype, name="head"
    )(x)


def compute_endpoints(
    units: Mapping[str, Callable[[jax.Array], jax.Array]],
    x: Float[Array, "n ..."],
    start: str,
    stop: str,
) -> dict[str, Float[Array, "n ..."]]:
    """Returns endpoint to output, where each unit takes the output of the one before.

    Args:
      units: endpoint to function, in order.
      x: input of the first unit to run.
      start: an endpoint, whose output is `x`, so that the unit after it runs first; '' to run from
        the first unit.
      stop: the last endpoint to compute; '' to compute all.

    Raises:
      ValueError: no such endpoint.
    """
    names = list(units)
    for bound in filter(None, (start, stop)):
        if bound not in names:
            raise ValueError(f"expected start and stop to be among {names}, got {bound!r}")
    first = names.index(start) + 1 if start else 0
    last = names.index(stop) + 1 if stop else len(names)
    endpoints = {}
    for name in names[first:last]:
        endpoints[name] = x = units[name](x)
    return endpoints


def check_images(images: jax.Array) -> None:
    """Raises ValueError unless `images` is `[N, H, W, 3]` floating point."""
    if images.ndim != 4 or images.shape[-1] != 3 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"expected normalised floating-point images [N, H, W, 3], got {images.dtype}"
            f"{list(images.shape)}"
        )
