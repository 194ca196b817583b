"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-excite, with ReLU6 and TensorFlow's padding.

Source: tensorflow/tpu, models/official/efficientnet/lite (2020); Tan and Le 2019, arXiv:1905.11946.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tl.models.layers import ConvBN, Stage, Train, check_images, compute_endpoints, head

# Repeats, kernel, stride of the first block, expansion, output channels of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_WIDTH = 32
TOP_WIDTH = 1280


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


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with endpoints `stem`, `stage1`...`stage7`, `pooled` and `logits`.

    Attributes:
      num_classes: outputs of the head; 0 for no head and no `logits`.
      dropout: see `tl.models.layers.head`.
      norm_epsilon: 1e-3, as in training; it matters, since some running variances are exactly 0.
      norm_momentum, folded, dtype, param_dtype: see `tl.models.layers.ConvBN`.
    """

    num_classes: int = 1000
    dropout: float = 0.0
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
            padding="same",
            norm_epsilon=self.norm_epsilon,
            norm_momentum=self.norm_momentum,
            folded=self.folded,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        stem = conv_bn(STEM_WIDTH, 3, 2, name="stem")
        top = conv_bn(TOP_WIDTH, 1, name="top")
        units = {"stem": lambda x: nn.relu6(stem(x, train))}
        for i, (size, kernel_size, stride, expansion, features) in enumerate(STAGES):
            block = functools.partial(
                InvertedResidual, features, kernel_size, expansion=expansion, conv_bn=conv_bn
            )
            stage = Stage(size, stride, block, name=f"stage{i + 1}")
            units[f"stage{i + 1}"] = functools.partial(stage, train=train)
        units["pooled"] = lambda x: jnp.mean(nn.relu6(top(x, train)), axis=(1, 2))
        endpoints = compute_endpoints(units, images, start, stop)
        if self.num_classes and not stop:
            endpoints["logits"] = head(self, endpoints.get("pooled", images))
        return endpoints
