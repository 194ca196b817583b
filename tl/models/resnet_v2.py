"""ResNet-v2 (He et al. 2016, arXiv:1603.05027), which normalises before each convolution, and BiT.

BiT (Kolesnikov et al. 2019, arXiv:1912.11370) has group normalisation (Wu and He 2018,
arXiv:1803.08494) and standardised kernels (Qiao et al. 2019, arXiv:1903.10520). Both stride in the
3x3 convolution, as timm's and Google's do; the paper of 2016 strides in the 1x1 before it.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from tl.models.backbone import FINAL, Backbone, Endpoint, blocks
from tl.models.cpu.batch_norm import BatchNorm
from tl.models.cpu.lowering import conv
from tl.models.cpu.pooling import max_pool
from tl.models.layers import (
    Stage,
    Train,
    by_batch,
    check_images,
    compute_endpoints,
    head,
    rematerialised,
)
from tl.models.resnet import EXPANSION

GROUPS = 32
KERNEL_EPSILON = 1e-8  # added to the variance of a kernel; BiT's kernels are small, so it matters


def standardise(kernel: Float[Array, "kh kw c features"]) -> Float[Array, "kh kw c features"]:
    """Returns a kernel whose weights for each output channel have mean 0 and variance 1.

    Args:
      kernel: `[kh, kw, c, features]`; the arithmetic is at least float32.
    """
    weights = kernel.astype(np.promote_types(kernel.dtype, np.float32))
    centred = weights - weights.mean((0, 1, 2))
    var = jnp.square(centred).mean((0, 1, 2))
    return (centred / jnp.sqrt(var + KERNEL_EPSILON)).astype(kernel.dtype)


def standardised_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c features"], *args: Any, **kwargs: Any
) -> Float[Array, "n h2 w2 features"]:
    """`tl.models.cpu.lowering.conv` with the standardised kernel."""
    return conv(x, standardise(kernel), *args, **kwargs)


def _conv(
    features: int, kernel_size: int, stride: int = 1, *, bit: bool, name: str, **types: Any
) -> nn.Conv:
    return nn.Conv(
        features,
        (kernel_size,) * 2,
        stride,
        [(kernel_size // 2,) * 2] * 2,
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        conv_general_dilated=standardised_conv if bit else conv,
        name=name,
        **types,
    )


class GroupNorm(nn.Module):
    """Group normalisation over pixels and the channels of each group, with a scale and a bias each.

    `flax.linen.GroupNorm` sums pixels and channels in one. Here the pixels of each channel come
    first: beside float64, features of BiT are 1.5 times as exact (8e-6 for 1.2e-5 of the largest).

    Attributes:
      groups: of consecutive channels, whose number they divide.
      epsilon: added to the variance.
      dtype: type of the result; the arithmetic is at least float32.
      param_dtype: type of `scale` and `bias`.
    """

    groups: int
    epsilon: float
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Maps `[N, h, w, c]` to the same shape."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)

        def group_mean(values: jax.Array) -> jax.Array:
            of_channels = values.mean((1, 2)).reshape(x.shape[0], self.groups, -1)
            means = jnp.repeat(of_channels.mean(2), channels // self.groups, axis=1)
            return means[:, None, None]

        x = x.astype(np.promote_types(x.dtype, np.float32))
        x = x - group_mean(x)
        gain = scale * lax.rsqrt(group_mean(lax.square(x)) + self.epsilon)
        return (x * gain + bias).astype(self.dtype)


class NormRelu(nn.Module):
    """Normalisation, then ReLU.

    Attributes:
      grouped: group normalisation; otherwise batch normalisation.
      norm_epsilon, norm_momentum, dtype, param_dtype: see `tl.models.layers.ConvBN`.
      folded: whether batch normalisation is one product and one sum (`tl.models.folding`).
    """

    grouped: bool
    norm_epsilon: float
    norm_momentum: float
    folded: bool
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: Train) -> Float[Array, "n h w c"]:
        """Maps `[N, h, w, c]` to the same shape."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        if self.grouped:
            return nn.relu(GroupNorm(GROUPS, self.norm_epsilon, name="gn", **types)(x))
        if self.folded:
            scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
            bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
            return nn.relu(x * scale + bias).astype(self.dtype)
        norm = BatchNorm(self.norm_momentum, self.norm_epsilon, name="bn", **types)
        return nn.relu(norm(x, use_running_average=not by_batch(self, train)))


class PreactBlock(nn.Module):
    """Residual block: 1x1, 3x3, 1x1, each after a normalisation; nothing after the sum.

    Attributes:
      width: channels of the 3x3 convolution; the output has `EXPANSION` times as many.
      stride: of the block.
      conv, norm: modules with the network's settings.
    """

    width: int
    stride: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: Train
    ) -> Float[Array, "n h2 w2 features"]:
        """Maps `[N, h, w, c]` to `[N, ceil(h / stride), ceil(w / stride), features]`."""
        features = EXPANSION * self.width
        y = self.norm(name="norm1")(x, train)
        if self.stride != 1 or x.shape[-1] != features:
            shortcut = self.conv(features, 1, self.stride, name="downsample")(y)
        else:
            shortcut = x
        y = self.conv(self.width, 1, name="conv1")(y)
        y = self.norm(name="norm2")(y, train)
        y = self.conv(self.width, 3, self.stride, name="conv2")(y)
        y = self.norm(name="norm3")(y, train)
        return self.conv(features, 1, name="conv3")(y) + shortcut


class ResNetV2(nn.Module):
    """ResNet-v2 with endpoints `stem`, `stage1`..., `pooled` and `logits`.

    The outputs of the stem and of the stages are sums that no normalisation or ReLU follows, so
    they have both signs; `pooled` is the mean after the last normalisation, which is its own.

    Attributes:
      stage_sizes: blocks of each stage.
      bit: Google's BiT, see above; its stem pools over a border of zeros.
      stem_width: channels of the 7x7 convolution.
      widths: a quarter of each stage's output channels.
      num_classes: outputs of the head; 0 for no head and no `logits`.
      dropout: see `tl.models.layers.head`.
      remat: whether blocks are computed again in the backward pass, see `tl.models.layers`.
      norm_epsilon, dtype, param_dtype: see `tl.models.layers.ConvBN`.
      norm_momentum, folded: too; BiT has no batch normalisation to use them.
    """

    stage_sizes: Sequence[int]
    bit: bool = False
    stem_width: int = 64
    widths: Sequence[int] = (64, 128, 256, 512)
    num_classes: int = 1000
    dropout: float = 0.0
    remat: bool = False
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    folded: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, train: Train = False, start: str = "", stop: str = ""
    ) -> dict[str, Float[Array, "n ..."]]:
        """Runs the network; arguments and results as in `tl.models.resnet.ResNet`."""
        if not start:
            check_images(images)
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv_of: Any = functools.partial(_conv, bit=self.bit, **types)
        norm = functools.partial(
            NormRelu, self.bit, self.norm_epsilon, self.norm_momentum, self.folded, **types
        )
        stem = conv_of(self.stem_width, 7, 2, name="stem")
        units = {"stem": lambda x: self._pool(stem(x))}
        for i, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            block = functools.partial(
                rematerialised(PreactBlock, self.remat, 2), width, conv=conv_of, norm=norm
            )
            stage = Stage(size, 1 if i == 0 else 2, block, name=f"stage{i + 1}")
            units[f"stage{i + 1}"] = functools.partial(stage, train=train)
        last = norm(name=FINAL)
        units[FINAL] = lambda x: jnp.mean(last(x, train), axis=(1, 2))
        endpoints = compute_endpoints(units, images, start, stop)
        if self.num_classes and not stop:
            endpoints["logits"] = head(self, endpoints.get("pooled", images))
        return endpoints

    def _pool(self, x: jax.Array) -> jax.Array:
        pads = ((1, 1), (1, 1))
        if self.bit:  # zeros count here, where values may be negative
            x, pads = jnp.pad(x, ((0, 0), *pads, (0, 0))), ((0, 0), (0, 0))
        return max_pool(x, (3, 3), (2, 2), pads)


def _resnet_v2(name: str, *stage_sizes: int, bit: bool = False) -> Backbone:
    widths = [64 * 2**i * EXPANSION for i in range(4)]
    return Backbone(
        name=name,
        module=ResNetV2,
        arguments={"stage_sizes": stage_sizes, "bit": bit},
        outputs={
            "stem": Endpoint(64),
            **{f"stage{i + 1}": Endpoint(width) for i, width in enumerate(widths)},
            FINAL: Endpoint(widths[-1], "vector"),
        },
        layers=("stem", *blocks(stage_sizes), FINAL, "head"),
        schemes=("timm_resnet_v2",),
        batch_stats=not bit,
    )


BACKBONES = (
    _resnet_v2("resnetv2_50", 3, 4, 6, 3),
    _resnet_v2("resnetv2_101", 3, 4, 23, 3),
    _resnet_v2("resnetv2_50x1_bit", 3, 4, 6, 3, bit=True),
    _resnet_v2("resnetv2_101x1_bit", 3, 4, 23, 3, bit=True),
)
