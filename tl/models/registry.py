"""Backbones by name, and the contract: what each network says of itself to the rest of the code.

Other code asks this contract and knows no network by name. Adding a network is one module, one
entry here, one table of names in `tl.weights.naming` and one entry of `tl.weights.catalog`;
tests/test_models_registry.py then holds it to its word.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from tl.errors import UserError, nearest
from tl.models import efficientnet_lite
from tl.models.efficientnet_lite import EfficientNetLite0
from tl.models.resnet import ResNet

KINDS = ("map", "tokens", "vector")
FINAL, LOGITS = "pooled", "logits"


@runtime_checkable
class Network(Protocol):
    """The Flax module of a backbone.

    Called as `apply(variables, x, train=..., start=..., stop=...)`, it gives endpoint to output.
    Every endpoint is computed from the one before it, so that the network can end after one
    (`stop`) and go on after one (`start`); see `tl.models.resnet.ResNet`. Its head is a dense
    module called `head`, which acts on the endpoint `pooled`.

    Attributes:
      num_classes: outputs of the head; 0 for no head and no `logits`.
      dropout: share of the head's inputs that is dropped where `apply` is given a key `dropout`.
    """

    num_classes: int
    dropout: float

    def __hash__(self) -> int:
        """Equal modules share what is compiled."""

    def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns new variables."""

    def init_with_output(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns what `apply` gives, and new variables."""

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns endpoint to output."""

    def clone(self, **arguments: Any) -> Self:
        """Returns the module with other attributes."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One output of a network.

    Attributes:
      width: channels C, or features D.
      kind: `map` [N, h, w, C], `tokens` [N, T, D] or `vector` [N, D].
      leading: of tokens, how many come before those of the patches: class and register tokens.
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
      arguments: what makes the class this network.
      outputs: endpoint to what it is, in order of computation, without `logits`. The last one is
        called `pooled`: a vector, which the head acts on. The parameters of an endpoint lie in the
        module of its name.
      layers: modules that partition the parameters, in order of computation, the head last:
        `stem`, `stage1/block1`. Learning rates decay and tables are ordered by them.
      schemes: of `tl.weights.naming`, those its weights come in; the first is the one written.
      batch_stats: whether it normalises by batch statistics; it is then built of
        `tl.models.layers.ConvBN`, and has the attributes `norm_epsilon`, `norm_momentum`, `folded`.
      multiple: the side of its images in pixels is a multiple of this, such as a patch's side.
      any_size: whether weights for images of one size serve others; not so where a position table
        has an entry for each patch.
      stride: input pixels to one pixel of the last map or token; images smaller than this still
        run where `multiple` allows them.
      step_cost: time of a training step over that of the frozen network's features, on a CPU, where
        extraction gains by folding, chunks and a device for each core. Measured on two cores at
        64 px: EfficientNet-Lite0 has 2,700 images a second of features and 225 of training.
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
        """Returns the layer that a leaf belongs to.

        Raises:
          ValueError: no layer has it; the contract is incomplete.
        """
        for layer in self.layers:
            if path.startswith(layer + "/") or path == layer:
                return layer
        raise ValueError(f"expected {path!r} to be of a layer of {self.name}: {self.layers}")

    def check_size(self, size: int, weights_size: int) -> None:
        """Raises UserError unless the network takes images of a size.

        Args:
          size: side of the images in pixels.
          weights_size: the side that belongs to the weights.
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


def blocks(stage_sizes: Sequence[int]) -> tuple[str, ...]:
    """Returns the blocks of all stages as layers.

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
        Backbone(
            name="efficientnet_lite0",
            module=EfficientNetLite0,
            arguments={},
            outputs={
                "stem": Endpoint(efficientnet_lite.STEM_WIDTH),
                **{
                    f"stage{i + 1}": Endpoint(stage[-1])
                    for i, stage in enumerate(efficientnet_lite.STAGES)
                },
                FINAL: Endpoint(efficientnet_lite.TOP_WIDTH, "vector"),
            },
            layers=(
                "stem",
                *blocks([stage[0] for stage in efficientnet_lite.STAGES]),
                "top",
                "head",
            ),
            schemes=("efficientnet_lite", "timm_efficientnet_lite"),
            step_cost=12.0,
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


def build(name: str, **arguments: Any) -> Network:
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
