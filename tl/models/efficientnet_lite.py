"""EfficientNet-Lite: EfficientNets without squeeze-excite, with ReLU6 and TensorFlow's padding.

Source: tensorflow/tpu, models/official/efficientnet/lite (2020); Tan and Le 2019, arXiv:1905.11946.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tl.models.backbone import FINAL, Backbone, Endpoint, blocks
from tl.models.layers import (
    ConvBN,
    Stage,
    Train,
    check_images,
    compute_endpoints,
    head,
    rematerialised,
)

# Kernel, stride of the first block and expansion of each stage, in all networks of the family.
STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
# Blocks and output channels of each stage of Lite0; the other networks scale them.
SIZES = (1, 2, 2, 3, 3, 4, 1)
WIDTHS = (16, 24, 40, 80, 112, 192, 320)
STEM_WIDTH = 32
TOP_WIDTH = 1280


def scaled(width: float, depth: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the blocks and the output channels of each stage of a larger network.

    The first and the last stage keep their one block; stem and top keep their channels. Channels
    are multiples of 8, and no more than 10 % below what is asked for.

    >>> scaled(1.1, 1.2)
    ((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352))

    Args:
      width: how many times the channels of Lite0.
      depth: how many times its blocks.
    """
    sizes = (SIZES[0], *(math.ceil(depth * size) for size in SIZES[1:-1]), SIZES[-1])
    nearest = [max(8, int(width * channels + 4) // 8 * 8) for channels in WIDTHS]
    return sizes, tuple(
        near if near >= 0.9 * width * channels else near + 8
        for near, channels in zip(nearest, WIDTHS)
    )


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise kxk, project 1x1; a shortcut if input and output have one shape."""

    features: int
    kernel_size: int
    stride: int
    expansion: int
    conv_bn: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: Train
    ) -> Float[Array, "n h2 w2 {self.features}"]:
        """Maps `[N, h, w, c]` to `[N, ceil(h / stride), ceil(w / stride), features]`."""
        y = x
        width = self.expansion * x.shape[-1]
        if self.expansion != 1:
            y = nn.relu6(self.conv_bn(width, 1, name="expand")(y, train))
        depthwise = self.conv_bn(
            width, self.kernel_size, self.stride, groups=width, name="depthwise"
        )
        y = nn.relu6(depthwise(y, train))
        y = self.conv_bn(self.features, 1, name="project")(y, train)
        return x + y if x.shape == y.shape else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite with endpoints `stem`, `stage1`...`stage7`, `pooled` and `logits`.

    Attributes:
      stage_sizes: blocks of each stage.
      widths: output channels of each stage.
      padding: see `tl.models.layers.ConvBN`; timm's own weights were trained with `torch`.
      num_classes: outputs of the head; 0 for no head and no `logits`.
      dropout: see `tl.models.layers.head`.
      remat: whether blocks are computed again in the backward pass, see `tl.models.layers`.
      norm_epsilon: 1e-3, as in training; it matters, since some running variances are exactly 0.
      norm_momentum, folded, dtype, param_dtype: see `tl.models.layers.ConvBN`.
    """

    stage_sizes: Sequence[int] = SIZES
    widths: Sequence[int] = WIDTHS
    padding: str = "same"
    num_classes: int = 1000
    dropout: float = 0.0
    remat: bool = False
    norm_epsilon: float = 1e-3
    norm_momentum: float = 0.99
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
        conv_bn = functools.partial(
            ConvBN,
            padding=self.padding,
            norm_epsilon=self.norm_epsilon,
            norm_momentum=self.norm_momentum,
            folded=self.folded,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        stem = conv_bn(STEM_WIDTH, 3, 2, name="stem")
        top = conv_bn(TOP_WIDTH, 1, name="top")
        units = {"stem": lambda x: nn.relu6(stem(x, train))}
        for i, (kernel_size, stride, expansion) in enumerate(STAGES):
            block = functools.partial(
                rematerialised(InvertedResidual, self.remat, 2),
                self.widths[i],
                kernel_size,
                expansion=expansion,
                conv_bn=conv_bn,
            )
            stage = Stage(self.stage_sizes[i], stride, block, name=f"stage{i + 1}")
            units[f"stage{i + 1}"] = functools.partial(stage, train=train)
        units["pooled"] = lambda x: jnp.mean(nn.relu6(top(x, train)), axis=(1, 2))
        endpoints = compute_endpoints(units, images, start, stop)
        if self.num_classes and not stop:
            endpoints["logits"] = head(self, endpoints.get("pooled", images))
        return endpoints


def _efficientnet_lite(number: int, width: float, depth: float, *schemes: str) -> Backbone:
    sizes, widths = scaled(width, depth)
    return Backbone(
        name=f"efficientnet_lite{number}",
        module=EfficientNetLite,
        arguments={"stage_sizes": sizes, "widths": widths},
        outputs={
            "stem": Endpoint(STEM_WIDTH),
            **{f"stage{i + 1}": Endpoint(channels) for i, channels in enumerate(widths)},
            FINAL: Endpoint(TOP_WIDTH, "vector"),
        },
        layers=("stem", *blocks(sizes), "top", "head"),
        schemes=(*schemes, "timm_efficientnet_lite"),
        step_cost=12.0,
    )


BACKBONES = (
    _efficientnet_lite(0, 1.0, 1.0, "efficientnet_lite"),
    _efficientnet_lite(1, 1.0, 1.1, "efficientnet_lite1"),
    _efficientnet_lite(2, 1.1, 1.2, "efficientnet_lite1"),
    _efficientnet_lite(3, 1.2, 1.4),
    _efficientnet_lite(4, 1.4, 1.8),
)
