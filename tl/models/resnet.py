"""ResNet (He et al. 2015, arXiv:1512.03385), v1.5 and v1, with named endpoints."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tl.models.backbone import FINAL, Backbone, Endpoint, blocks
from tl.models.cpu.pooling import max_pool
from tl.models.layers import ConvBN, Stage, Train, check_images, compute_endpoints, head


class Block(nn.Module):
    """Residual block: `bottleneck` 1x1, 3x3, 1x1 (four times wider) or `basic` 3x3, 3x3."""

    width: int
    kind: str
    stride: int
    stride_in: str
    conv_bn: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: Train
    ) -> Float[Array, "n h2 w2 features"]:
        """Maps `[N, h, w, c]` to `[N, ceil(h / stride), ceil(w / stride), features]`."""
        shortcut = x
        if self.kind == "bottleneck":
            features = 4 * self.width
            first, second = (1, self.stride) if self.stride_in == "3x3" else (self.stride, 1)
            y = nn.relu(self.conv_bn(self.width, 1, first, name="conv1")(x, train))
            y = nn.relu(self.conv_bn(self.width, 3, second, name="conv2")(y, train))
            y = self.conv_bn(features, 1, name="conv3")(y, train)
        else:
            features = self.width
            y = nn.relu(self.conv_bn(features, 3, self.stride, name="conv1")(x, train))
            y = self.conv_bn(features, 3, name="conv2")(y, train)
        if self.stride != 1 or x.shape[-1] != features:
            shortcut = self.conv_bn(features, 1, self.stride, name="downsample")(x, train)
        return nn.relu(y + shortcut)


class ResNet(nn.Module):
    """ResNet with endpoints `stem`, `stage1`..., `pooled` and `logits`.

    Attributes:
      stage_sizes: blocks of each stage.
      block: `bottleneck` or `basic`.
      stem_width: channels of the 7x7 convolution.
      widths: channels of each stage's 3x3 convolutions; a bottleneck's output is four times wider.
      num_classes: outputs of the head; 0 for no head and no `logits`.
      dropout: see `tl.models.layers.head`.
      stride_in: the convolution of a bottleneck that strides: `3x3` is v1.5 (torchvision, timm,
        Hugging Face), `1x1` is v1 (the paper, Caffe, Keras). Weights of the one load into the
        other and give wrong outputs.
      norm_epsilon, norm_momentum, folded, dtype, param_dtype: see `tl.models.layers.ConvBN`.
    """

    stage_sizes: Sequence[int]
    block: str = "bottleneck"
    stem_width: int = 64
    widths: Sequence[int] = (64, 128, 256, 512)
    num_classes: int = 1000
    dropout: float = 0.0
    stride_in: str = "3x3"
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    folded: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, train: Train = False, start: str = "", stop: str = ""
    ) -> dict[str, Float[Array, "n ..."]]:
        """Runs the network.

        Args:
          images: float `[N, H, W, 3]`, normalised as the weights' preprocessing says; or, with
            `start`, the output of that endpoint.
          train: which modules normalise by the batch's statistics and update the running ones
            (`tl.models.layers.Train`).
          start: an endpoint, whose output the network goes on from; '' to begin with the images.
          stop: the last endpoint to compute, other than `logits`; '' to compute all.

        Returns:
          Each endpoint after `start` to its output: spatial `[N, h, w, c]`, `pooled` `[N, D]` and,
          unless num_classes is 0, `logits` float32 `[N, num_classes]`.
        """
        if not start:
            check_images(images)
        if self.block not in ("bottleneck", "basic") or self.stride_in not in ("3x3", "1x1"):
            raise ValueError(
                "expected block 'bottleneck' or 'basic' and stride_in '3x3' or '1x1', got "
                f"{self.block!r} and {self.stride_in!r}"
            )
        conv_bn = functools.partial(
            ConvBN,
            norm_epsilon=self.norm_epsilon,
            norm_momentum=self.norm_momentum,
            folded=self.folded,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        stem = conv_bn(self.stem_width, 7, 2, name="stem")
        units = {
            "stem": lambda x: max_pool(
                nn.relu(stem(x, train)), (3, 3), (2, 2), pads=((1, 1), (1, 1))
            )
        }
        for i, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            block = functools.partial(
                Block, width, self.block, stride_in=self.stride_in, conv_bn=conv_bn
            )
            stage = Stage(size, 1 if i == 0 else 2, block, name=f"stage{i + 1}")
            units[f"stage{i + 1}"] = functools.partial(stage, train=train)
        units["pooled"] = lambda x: jnp.mean(x, axis=(1, 2))
        endpoints = compute_endpoints(units, images, start, stop)
        if self.num_classes and not stop:
            endpoints["logits"] = head(self, endpoints.get("pooled", images))
        return endpoints


def _resnet(depth: int, block: str, *stage_sizes: int) -> Backbone:
    expansion = 4 if block == "bottleneck" else 1
    widths = [64 * 2**i * expansion for i in range(4)]
    return Backbone(
        name=f"resnet{depth}",
        module=ResNet,
        arguments={"stage_sizes": stage_sizes, "block": block},
        outputs={
            "stem": Endpoint(64),
            **{f"stage{i + 1}": Endpoint(width) for i, width in enumerate(widths)},
            FINAL: Endpoint(widths[-1], "vector"),
        },
        layers=("stem", *blocks(stage_sizes), "head"),
        schemes=("torchvision", "huggingface", "keras"),
    )


BACKBONES = (
    _resnet(18, "basic", 2, 2, 2, 2),
    _resnet(34, "basic", 3, 4, 6, 3),
    _resnet(50, "bottleneck", 3, 4, 6, 3),
    _resnet(101, "bottleneck", 3, 4, 23, 3),
    _resnet(152, "bottleneck", 3, 8, 36, 3),
)
