"""Backbones by name: how to build each, its endpoints and their widths."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from tl.errors import UserError, nearest
from tl.models import efficientnet_lite
from tl.models.efficientnet_lite import EfficientNetLite0
from tl.models.resnet import ResNet


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A named network.

    Attributes:
      name: as in `build(name)`.
      module: the Flax class.
      arguments: what makes the class this network.
      widths: endpoint to channels, in the order of computation, without `logits`.
      stride: input pixels to one pixel of the last spatial endpoint; images smaller than this
        still run, with one pixel there.
    """

    name: str
    module: Callable[..., nn.Module]
    arguments: Mapping[str, Any]
    widths: Mapping[str, int]
    stride: int = 32

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Names of all outputs, in the order of computation."""
        return (*self.widths, "logits")


def _resnet(depth: int, block: str, *stage_sizes: int) -> Backbone:
    expansion = 4 if block == "bottleneck" else 1
    stages = {f"stage{i + 1}": 64 * 2**i * expansion for i in range(4)}
    return Backbone(
        name=f"resnet{depth}",
        module=ResNet,
        arguments={"stage_sizes": stage_sizes, "block": block},
        widths={"stem": 64, **stages, "pooled": stages["stage4"]},
    )


_BACKBONES = {
    backbone.name: backbone
    for backbone in (
        _resnet(18, "basic", 2, 2, 2, 2),
        _resnet(34, "basic", 3, 4, 6, 3),
        _resnet(50, "bottleneck", 3, 4, 6, 3),
        _resnet(101, "bottleneck", 3, 4, 23, 3),
        _resnet(152, "bottleneck", 3, 8, 36, 3),
        Backbone(
            name="efficientnet_lite0",
            module=EfficientNetLite0,
            arguments={},
            widths={
                "stem": efficientnet_lite.STEM_WIDTH,
                **{f"stage{i + 1}": s[-1] for i, s in enumerate(efficientnet_lite.STAGES)},
                "pooled": efficientnet_lite.TOP_WIDTH,
            },
        ),
    )
}


def names() -> tuple[str, ...]:
    """Returns the names of all backbones."""
    return tuple(_BACKBONES)


def get(name: str) -> Backbone:
    """Returns the backbone of that name.

    Raises:
      UserError: there is none; the text lists the near ones.
    """
    if name not in _BACKBONES:
        raise UserError(f"no backbone is called {name!r}{nearest(name, _BACKBONES)}")
    return _BACKBONES[name]


def build(name: str, **arguments: Any) -> nn.Module:
    """Returns the Flax module of that name.

    Args:
      name: see `names`.
      **arguments: attributes of the module that differ from its defaults, such as `num_classes`,
        `dtype`, `stride_in`; a ResNet's depth belongs to the name.

    Raises:
      UserError: no such backbone.
    """
    backbone = get(name)
    return backbone.module(**{**backbone.arguments, **arguments})
