"""ResNet (He et al. 2015, arXiv:1512.03385), v1.5 and v1, with named endpoints, and its relatives.

Those are ResNeXt (Xie et al. 2016, arXiv:1611.05431), whose 3x3 convolutions have groups, Wide
ResNet (Zagoruyko and Komodakis 2016, arXiv:1605.07146), whose 3x3 convolutions have twice the
channels, and ResNet-D (He et al. 2018, arXiv:1812.01187), with another stem and another shortcut.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tl.models.backbone import FINAL, Backbone, Endpoint, blocks
from tl.models.cpu.pooling import max_pool
from tl.models.layers import (
    ConvBN,
    Stage,
    Train,
    check_images,
    compute_endpoints,
    head,
    rematerialised,
)

EXPANSION = 4  # output channels of a bottleneck for each of a stage's width


class Block(nn.Module):
    """Residual block: `bottleneck` 1x1, 3x3, 1x1 or `basic` 3x3, 3x3.

    Attributes:
      width: output channels of a basic block; a bottleneck has `EXPANSION` times as many.
      inner: channels of a bottleneck's 3x3 convolution.
      kind, stride_in, groups, pooled_shortcut: see `ResNet`.
      stride: of the block.
      conv_bn: `ConvBN` with the network's settings.
    """

    width: int
    inner: int
    kind: str
    stride: int
    stride_in: str
    groups: int
    pooled_shortcut: bool
    conv_bn: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: Train
    ) -> Float[Array, "n h2 w2 features"]:
        """Maps `[N, h, w, c]` to `[N, ceil(h / stride), ceil(w / stride), features]`."""
        shortcut = x
        if self.kind == "bottleneck":
            features = EXPANSION * self.width
            first, second = (1, self.stride) if self.stride_in == "3x3" else (self.stride, 1)
            y = nn.relu(self.conv_bn(self.inner, 1, first, name="conv1")(x, train))
            grouped = self.conv_bn(self.inner, 3, second, groups=self.groups, name="conv2")
            y = nn.relu(grouped(y, train))
            y = self.conv_bn(features, 1, name="conv3")(y, train)
        else:
            features = self.width
            y = nn.relu(self.conv_bn(features, 3, self.stride, name="conv1")(x, train))
            y = self.conv_bn(features, 3, name="conv2")(y, train)
        if self.stride != 1 or x.shape[-1] != features:
            stride = self.stride
            if self.pooled_shortcut and stride != 1:
                shortcut, stride = mean_pool(x, stride), 1
            shortcut = self.conv_bn(features, 1, stride, name="downsample")(shortcut, train)
        return nn.relu(y + shortcut)


def mean_pool(x: Float[Array, "n h w c"], stride: int) -> Float[Array, "n h2 w2 c"]:
    """Returns the means of squares of `stride` x `stride` pixels.

    A square that lies partly outside is the mean of its pixels inside (torch's `ceil_mode` without
    `count_include_pad`).

    Args:
      x: float `[N, h, w, c]`.
      stride: side of the squares, and their step.

    Returns:
      `[N, ceil(h / stride), ceil(w / stride), c]`.
    """
    images, *sides, channels = x.shape
    counts = [-(-side // stride) for side in sides]
    # Not a pooling, whose padding jax2onnx would leave out: see `tl.models.cpu.pooling`.
    padded = jnp.pad(x, ((0, 0), *((0, -side % stride) for side in sides), (0, 0)))
    squares = padded.reshape(images, counts[0], stride, counts[1], stride, channels)
    inside = [
        np.minimum(stride, side - stride * np.arange(count)) for side, count in zip(sides, counts)
    ]
    pixels = np.multiply.outer(*inside)[..., None].astype(x.dtype)
    return squares.sum((2, 4)) / pixels


class DeepStem(nn.Module):
    """Three 3x3 convolutions in place of one 7x7; the first strides, the last is twice as wide."""

    width: int
    conv_bn: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], train: Train
    ) -> Float[Array, "n h2 w2 {self.width}"]:
        """Maps `[N, h, w, c]` to `[N, ceil(h / 2), ceil(w / 2), width]`, without the last ReLU."""
        x = nn.relu(self.conv_bn(self.width // 2, 3, 2, name="conv1")(x, train))
        x = nn.relu(self.conv_bn(self.width // 2, 3, name="conv2")(x, train))
        return self.conv_bn(self.width, 3, name="conv3")(x, train)


class ResNet(nn.Module):
    """ResNet with endpoints `stem`, `stage1`..., `pooled` and `logits`.

    Attributes:
      stage_sizes: blocks of each stage.
      block: `bottleneck` or `basic`.
      stem_width: channels of the stem.
      widths: width of each stage: a basic block's channels, a quarter of a bottleneck's output.
      groups: of a bottleneck's 3x3 convolution (ResNeXt's cardinality).
      base_width: channels of each group of the 3x3 convolution where a stage is 64 wide; they grow
        with the stage. 64 is the plain ResNet's and 128 Wide-ResNet-2's, with one group.
      deep_stem: three 3x3 convolutions in the stem, not one of 7x7 (ResNet-C and -D).
      pooled_shortcut: a shortcut that strides takes the means of 2x2 pixels, not one of each four
        (ResNet-D).
      num_classes: outputs of the head; 0 for no head and no `logits`.
      dropout: see `tl.models.layers.head`.
      remat: whether blocks are computed again in the backward pass, see `tl.models.layers`.
      stride_in: the convolution of a bottleneck that strides: `3x3` is v1.5 (torchvision, timm,
        Hugging Face), `1x1` is v1 (the paper, Caffe, Keras). Weights of the one load into the
        other and give wrong outputs.
      norm_epsilon, norm_momentum, folded, dtype, param_dtype: see `tl.models.layers.ConvBN`.
    """

    stage_sizes: Sequence[int]
    block: str = "bottleneck"
    stem_width: int = 64
    widths: Sequence[int] = (64, 128, 256, 512)
    groups: int = 1
    base_width: int = 64
    deep_stem: bool = False
    pooled_shortcut: bool = False
    num_classes: int = 1000
    dropout: float = 0.0
    remat: bool = False
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
        if self.block == "basic" and (self.groups, self.base_width) != (1, 64):
            raise ValueError("basic blocks have one group and their stage's width")
        conv_bn = functools.partial(
            ConvBN,
            norm_epsilon=self.norm_epsilon,
            norm_momentum=self.norm_momentum,
            folded=self.folded,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        stem: Any = (
            DeepStem(self.stem_width, conv_bn, name="stem")
            if self.deep_stem
            else conv_bn(self.stem_width, 7, 2, name="stem")
        )
        units = {
            "stem": lambda x: max_pool(
                nn.relu(stem(x, train)), (3, 3), (2, 2), pads=((1, 1), (1, 1))
            )
        }
        for i, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            block = functools.partial(
                rematerialised(Block, self.remat, 2),
                width,
                width * self.base_width // 64 * self.groups,
                self.block,
                stride_in=self.stride_in,
                groups=self.groups,
                pooled_shortcut=self.pooled_shortcut,
                conv_bn=conv_bn,
            )
            stage = Stage(size, 1 if i == 0 else 2, block, name=f"stage{i + 1}")
            units[f"stage{i + 1}"] = functools.partial(stage, train=train)
        units["pooled"] = lambda x: jnp.mean(x, axis=(1, 2))
        endpoints = compute_endpoints(units, images, start, stop)
        if self.num_classes and not stop:
            endpoints["logits"] = head(self, endpoints.get("pooled", images))
        return endpoints


_STAGES = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


def _resnet(name: str, depth: int, *schemes: str, **arguments: Any) -> Backbone:
    block, sizes = _STAGES[depth]
    expansion = EXPANSION if block == "bottleneck" else 1
    widths = [64 * 2**i * expansion for i in range(4)]
    return Backbone(
        name=name,
        module=ResNet,
        arguments={"stage_sizes": sizes, "block": block, **arguments},
        outputs={
            "stem": Endpoint(64),
            **{f"stage{i + 1}": Endpoint(width) for i, width in enumerate(widths)},
            FINAL: Endpoint(widths[-1], "vector"),
        },
        layers=("stem", *blocks(sizes), "head"),
        schemes=schemes,
    )


def _grouped(name: str, depth: int, groups: int, base_width: int) -> Backbone:
    return _resnet(name, depth, "torchvision", groups=groups, base_width=base_width)


def _resnet_d(depth: int) -> Backbone:
    return _resnet(f"resnet{depth}d", depth, "timm_resnet_d", deep_stem=True, pooled_shortcut=True)


BACKBONES = (
    *(_resnet(f"resnet{n}", n, "torchvision", "huggingface", "keras") for n in _STAGES),
    _grouped("resnext50_32x4d", 50, 32, 4),
    _grouped("resnext101_32x4d", 101, 32, 4),
    _grouped("resnext101_32x8d", 101, 32, 8),
    _grouped("resnext101_64x4d", 101, 64, 4),
    _grouped("wide_resnet50_2", 50, 1, 128),
    _grouped("wide_resnet101_2", 101, 1, 128),
    *(_resnet_d(depth) for depth in _STAGES),
)
