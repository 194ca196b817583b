"""Backbones by name, each with its contract: all that other code may know of a network.

To add a network, write a module, an entry here, a naming scheme in `tl.weights.naming` and an entry
in `tl.weights.catalog`. tests/test_models_registry.py then checks the contract.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from tl.errors import UserError, nearest
from tl.models import efficientnet_lite
from tl.models.efficientnet_lite import EfficientNetLite
from tl.models.resnet import ResNet

KINDS = ("map", "tokens", "vector")
FINAL, LOGITS = "pooled", "logits"


@runtime_checkable
class Network(Protocol):
    """The Flax module of a backbone.

    `apply(variables, x, train=..., start=..., stop=...)` returns endpoint to output. Every endpoint
    is computed from the one before it, so that the network can end after one (`stop`) and go on
    after one (`start`); see `tl.models.resnet.ResNet`. Its head is a dense module called `head`,
    which takes the endpoint `pooled`.

    Attributes:
      num_classes: outputs of the head; 0 for no head and no `logits`.
      dropout: share of the head's inputs to drop if `apply` is given a key `dropout`.
    """

    num_classes: int
    dropout: float

    def __hash__(self) -> int:
        """Equal modules have equal hashes, and so share compiled programs."""

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns new variables."""

    def init_with_output(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns (endpoint to output, new variables)."""

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns endpoint to output."""

    def clone(self, **arguments: Any) -> "Network":
        """Returns a copy with these attributes changed."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One output of a network.

    Attributes:
      width: channels C, or features D.
      kind: `map` [N, h, w, C], `tokens` [N, T, D] or `vector` [N, D].
      leading: number of class and register tokens, which come before those of the patches.
    """

    width: int
    kind: str = "map"
    leading: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a kind of {KINDS}, got {self.kind!r}")


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A named network.

    Attributes:
      name: as in `build(name)`.
      module: the Flax class.
      arguments: arguments that the class is called with.
      outputs: endpoint to its description, in order of computation, without `logits`. The last one
        is `pooled`: a vector, which the head takes. The parameters of an endpoint are in the module
        with its name.
      layers: modules that partition the parameters, in order of computation, the head last, such
        as `stem`, `stage1/block1`. Layer-wise learning rates and tables follow this order.
      schemes: keys of `tl.weights.naming.SCHEMES` that its weights come in; the first is written.
      batch_stats: whether it has batch normalisation; it is then built of
        `tl.models.layers.ConvBN`, and has the attributes `norm_epsilon`, `norm_momentum`, `folded`.
      multiple: the side of its images in pixels must be a multiple of this, such as a patch's side.
      any_size: whether weights for one image size work at other sizes; False if a position table
        has an entry for each patch.
      stride: input pixels for each pixel or token of the last map; smaller images still run if
        `multiple` allows them.
      step_cost: time to train on an image, divided by the time to extract its features, on a CPU.
        Extraction folds batch normalisation, works in chunks and uses a device for each core. On
        two cores at 64 px EfficientNet-Lite0 extracts 2,700 images a second and trains on 225.
    """

    name: str
    module: type[Any]
    arguments: Mapping[str, Any]
    outputs: Mapping[str, Endpoint]
    layers: Sequence[str]
    schemes: Sequence[str]
    batch_stats: bool = True
    multiple: int = 1
    any_size: bool = True
    stride: int = 32
    step_cost: float = 6.0

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Names of all outputs, in order of computation."""
        return (*self.outputs, LOGITS)

    def layer_of(self, path: str) -> str:
        """Returns the layer of a parameter's path.

        Raises:
          ValueError: no layer has it; the contract is incomplete.
        """
        for layer in self.layers:
            if path.startswith(layer + "/") or path == layer:
                return layer
        raise ValueError(f"expected {path!r} to be of a layer of {self.name}: {self.layers}")

    def check_size(self, size: int, weights_size: int) -> None:
        """Raises UserError unless the network takes images of this size.

        Args:
          size: side of the images in pixels.
          weights_size: side that the weights were made for.
        """
        if size != weights_size and not self.any_size:
            raise UserError(
                f"these weights of {self.name} take images of {weights_size} pixels only, got "
                f"{size}",
                field="preprocess.size",
            )
        if size % self.multiple:
            near = max(self.multiple, round(size / self.multiple) * self.multiple)
            raise UserError(
                f"{self.name} takes images whose side is a multiple of {self.multiple} pixels, got "
                f"{size}; {near} is near",
                field="preprocess.size",
            )


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


def _efficientnet_lite(number: int, width: float, depth: float, *schemes: str) -> Backbone:
    sizes, widths = efficientnet_lite.scaled(width, depth)
    return Backbone(
        name=f"efficientnet_lite{number}",
        module=EfficientNetLite,
        arguments={"stage_sizes": sizes, "widths": widths},
        outputs={
            "stem": Endpoint(efficientnet_lite.STEM_WIDTH),
            **{f"stage{i + 1}": Endpoint(channels) for i, channels in enumerate(widths)},
            FINAL: Endpoint(efficientnet_lite.TOP_WIDTH, "vector"),
        },
        layers=("stem", *blocks(sizes), "top", "head"),
        schemes=(*schemes, "timm_efficientnet_lite"),
        step_cost=12.0,
    )


def blocks(stage_sizes: Sequence[int]) -> tuple[str, ...]:
    """Returns the layers of a network from the number of blocks in each stage.

    >>> blocks((1, 2))
    ('stage1/block1', 'stage2/block1', 'stage2/block2')
    """
    return tuple(
        f"stage{i + 1}/block{j + 1}" for i, size in enumerate(stage_sizes) for j in range(size)
    )


_BACKBONES = {
    backbone.name: backbone
    for backbone in (
        _resnet(18, "basic", 2, 2, 2, 2),
        _resnet(34, "basic", 3, 4, 6, 3),
        _resnet(50, "bottleneck", 3, 4, 6, 3),
        _resnet(101, "bottleneck", 3, 4, 23, 3),
        _resnet(152, "bottleneck", 3, 8, 36, 3),
        _efficientnet_lite(0, 1.0, 1.0, "efficientnet_lite"),
        _efficientnet_lite(1, 1.0, 1.1, "efficientnet_lite1"),
        _efficientnet_lite(2, 1.1, 1.2, "efficientnet_lite1"),
        _efficientnet_lite(3, 1.2, 1.4),
        _efficientnet_lite(4, 1.4, 1.8),
    )
}


def names() -> tuple[str, ...]:
    """Returns the names of all backbones."""
    return tuple(_BACKBONES)


def get(name: str) -> Backbone:
    """Returns the backbone with this name.

    Raises:
      UserError: there is none; the text lists near names.
    """
    if name not in _BACKBONES:
        raise UserError(f"no backbone is called {name!r}{nearest(name, _BACKBONES)}")
    return _BACKBONES[name]


def build(name: str, **arguments: Any) -> Network:
    """Returns the Flax module of the backbone with this name.

    Args:
      name: one of `names()`.
      **arguments: attributes of the module that differ from its defaults, such as `num_classes`,
        `dtype`, `stride_in`.

    Raises:
      UserError: no such backbone.
    """
    backbone = get(name)
    return backbone.module(**{**backbone.arguments, **arguments})
