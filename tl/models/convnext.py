"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545) and ConvNeXt V2 (Woo et al. 2023, arXiv:2301.00808).

Everything here is the same in timm, torchvision and transformers, except the epsilon of the last
normalisation (`ConvNeXt.pooled_epsilon`).
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tl.models.backbone import FINAL, Backbone, Endpoint, blocks
from tl.models.cpu.lowering import conv
from tl.models.layers import (
    DropPath,
    LayerNorm,
    Stage,
    Train,
    check_images,
    compute_endpoints,
    drop_rates,
    head,
    rematerialised,
)

RESPONSE_EPSILON = 1e-6  # added to the mean response; timm's, transformers' and the authors'


class ResponseNorm(nn.Module):
    """Global response normalisation of V2: channels compete by their norm over an image's pixels.

    With r the norm of a channel divided by the mean of all channels' norms, x becomes
    x + scale * r * x + bias. The arithmetic is at least float32.
    """

    param_dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Maps `[N, h, w, c]` to the same shape and type."""
        scale = self.param("scale", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        wide = x.astype(np.promote_types(x.dtype, np.float32))
        squares = jnp.sum(jnp.square(wide), axis=(1, 2), keepdims=True)
        # A root of 0, of a channel that is silent in an image, would have no finite gradient.
        silent = squares == 0
        norms = jnp.where(silent, 0, jnp.sqrt(jnp.where(silent, 1, squares)))
        response = norms / (jnp.mean(norms, axis=-1, keepdims=True) + RESPONSE_EPSILON)
        return (wide * (1 + scale * response) + bias).astype(x.dtype)


class Downsample(nn.Module):
    """Normalisation, then a 2x2 convolution with stride 2; an odd last row or column is left out.

    Attributes:
      conv, norm: make the two.
      features: output channels.
    """

    conv: Any
    norm: Any
    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 {self.features}"]:
        """Maps `[N, h, w, c]` to `[N, floor(h / 2), floor(w / 2), features]`."""
        return self.conv(self.features, 2, 2, name="conv")(self.norm(name="norm")(x))


class Stem(nn.Module):
    """A 4x4 convolution with stride 4, then normalisation; a rest of the image is left out."""

    conv: Any
    norm: Any
    features: int

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n h2 w2 {self.features}"]:
        """Maps `[N, h, w, 3]` to `[N, floor(h / 4), floor(w / 4), features]`."""
        return self.norm(name="norm")(self.conv(self.features, 4, 4, name="conv")(images))


class ConvNeXtBlock(nn.Module):
    """A depthwise 7x7 convolution, normalisation and an MLP, added to the input.

    A stage's first block has the stage's downsampling, if there is one, before that: as timm's and
    the authors' learning rates by layer have it.

    Attributes:
      features: channels.
      stride: 2 to downsample, else 1.
      grn: V2: `ResponseNorm` within the MLP, in the place of layer scale.
      conv, dense, norm: make the layers.
      param_dtype: type of the parameters.
      drop: rate of `tl.models.layers.DropPath`.
    """

    features: int
    stride: int
    grn: bool
    conv: Any
    dense: Any
    norm: Any
    param_dtype: Any
    drop: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: Train
    ) -> Float[Array, "n h2 w2 {self.features}"]:
        """Maps `[N, h, w, c]` to `[N, floor(h / stride), floor(w / stride), features]`."""
        if self.stride != 1:
            x = Downsample(self.conv, self.norm, self.features, name="downsample")(x)
        width = self.features
        y = self.conv(width, 7, pad=3, groups=width, name="depthwise")(x)
        y = self.dense(4 * width, name="fc1")(self.norm(name="norm")(y))
        y = nn.gelu(y, approximate=False)
        if self.grn:
            y = ResponseNorm(self.param_dtype, name="grn")(y)
        y = self.dense(width, name="fc2")(y)
        if not self.grn:
            small = nn.initializers.constant(1e-6)
            y *= self.param("gamma", small, (width,), self.param_dtype).astype(y.dtype)
        return x + (DropPath(self.drop, name="drop")(y) if self.drop else y)


class Final(nn.Module):
    """The mean over pixels, normalised."""

    norm: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
        """Maps `[N, h, w, c]` to `[N, c]`."""
        return self.norm(name="norm")(jnp.mean(x, axis=(1, 2)))


def _conv(
    features: int, side: int, stride: int = 1, pad: int = 0, groups: int = 1, **options: Any
) -> nn.Conv:
    return nn.Conv(
        features,
        (side, side),
        stride,
        [(pad, pad)] * 2,
        feature_group_count=groups,
        conv_general_dilated=conv,
        **options,
    )


class ConvNeXt(nn.Module):
    """ConvNeXt with endpoints `stem`, `stage1`..., `pooled` and `logits`.

    No normalisation follows the stages' outputs; `pooled` is the mean over pixels, normalised.

    Attributes:
      stage_sizes: blocks of each stage.
      widths: channels of each stage.
      grn: V2, see `ConvNeXtBlock`.
      num_classes: outputs of the head; 0 for no head and no `logits`.
      dropout: see `tl.models.layers.head`.
      drop_path: rate of the last block's `tl.models.layers.DropPath`; see `drop_rates` there.
      remat: whether blocks are computed again in the backward pass, see `tl.models.layers`.
      norm_epsilon: added to the variance in layer normalisations.
      pooled_epsilon: the same of the last one. That of transformers has 1e-12.
      dtype: compute type; the statistics of normalisations are float32 always.
      param_dtype: type of the parameters.
    """

    stage_sizes: Sequence[int]
    widths: Sequence[int]
    grn: bool = False
    num_classes: int = 1000
    dropout: float = 0.0
    drop_path: float = 0.0
    remat: bool = False
    norm_epsilon: float = 1e-6
    pooled_epsilon: float = 1e-6
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, train: Train = False, start: str = "", stop: str = ""
    ) -> dict[str, Float[Array, "n ..."]]:
        """Runs the network; arguments as in `tl.models.resnet.ResNet`, but `train` has no effect.

        Returns:
          Each endpoint after `start` to its output: maps `[N, h, w, C]`, `pooled` `[N, D]` and,
          unless num_classes is 0, `logits` float32 `[N, num_classes]`.
        """
        if not start:
            check_images(images)
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm = functools.partial(
            LayerNorm,
            epsilon=self.norm_epsilon,
            param_dtype=self.param_dtype,
        )
        conv_of = functools.partial(_conv, **types)
        units: dict[str, Any] = {"stem": Stem(conv_of, norm, self.widths[0], name="stem")}
        drops = iter(drop_rates(self.drop_path, sum(self.stage_sizes)))
        for i, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            block = functools.partial(
                rematerialised(ConvNeXtBlock, self.remat, 2),
                width,
                grn=self.grn,
                conv=conv_of,
                dense=functools.partial(nn.Dense, **types),
                norm=norm,
                param_dtype=self.param_dtype,
            )
            of_stage = tuple(itertools.islice(drops, size))
            stage = Stage(size, 1 if i == 0 else 2, block, of_stage, name=f"stage{i + 1}")
            units[f"stage{i + 1}"] = functools.partial(stage, train=train)
        units[FINAL] = Final(functools.partial(norm, epsilon=self.pooled_epsilon), name=FINAL)
        endpoints = compute_endpoints(units, images, start, stop)
        if self.num_classes and not stop:
            endpoints["logits"] = head(self, endpoints.get(FINAL, images))
        return endpoints


def _convnext(name: str, sizes: Sequence[int], width: int, *schemes: str) -> Backbone:
    widths = tuple(width * 2**i for i in range(4))
    return Backbone(
        name=name,
        module=ConvNeXt,
        arguments={"stage_sizes": sizes, "widths": widths, "grn": "v2" in name},
        outputs={
            "stem": Endpoint(width),
            **{f"stage{i + 1}": Endpoint(channels) for i, channels in enumerate(widths)},
            FINAL: Endpoint(widths[-1], "vector"),
        },
        layers=("stem", *blocks(sizes), FINAL, "head"),
        schemes=schemes,
        batch_stats=False,
        multiple=32,  # of other sides a rest would be left out, and of small ones nothing remains
        step_cost=4.5,
    )


_TINY, _BASE = (3, 3, 9, 3), (3, 3, 27, 3)  # Small has the blocks of Base
_V1 = ("timm_convnext", "torchvision_convnext", "huggingface_convnext")
_V2 = ("timm_convnext", "huggingface_convnextv2")

BACKBONES = (
    _convnext("convnext_tiny", _TINY, 96, *_V1),
    _convnext("convnext_small", _BASE, 96, *_V1),
    _convnext("convnext_base", _BASE, 128, *_V1),
    _convnext("convnextv2_tiny", _TINY, 96, *_V2),
    _convnext("convnextv2_base", _BASE, 128, *_V2),
)
