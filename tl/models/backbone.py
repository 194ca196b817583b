"""The contract of a backbone: all that other code may know of a network."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax

from tl.errors import UserError

KINDS = ("map", "tokens", "vector")
FINAL, LOGITS = "pooled", "logits"
# In a config they stand for the network's own endpoints: `Backbone.earlier`, and the one after.
EARLIER, LAST = "earlier", "last"


@runtime_checkable
class Network(Protocol):
    """The Flax module of a backbone.

    `apply(variables, x, train=..., start=..., stop=...)` returns endpoint to output. Every endpoint
    is computed from the one before it, so that the network can end after one (`stop`) and go on
    after one (`start`); see `tl.models.resnet.ResNet`. Its head is a dense module called `head`,
    which takes the endpoint `pooled`.

    Attributes:
      num_classes: outputs of the head; 0 for no head and no `logits`.
      dropout: share of the head's inputs to drop if `apply` is given a key `dropout`. A network
        with stochastic depth has `drop_path` too, see `tl.models.layers.DropPath`, and one whose
        blocks can be computed again in the backward pass has `remat`, see
        `tl.models.layers.rematerialised`.
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


# (module, variables, tokens [N, T, D]) -> the tokens, normalised as the last are before `pooled`.
LastNorm = Callable[[Any, Any, jax.Array], jax.Array]


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
        `tl.models.layers.ConvBN` or such as `tl.models.resnet_v2.NormRelu`, whose normalisation is
        called `bn`, and has the attributes `norm_epsilon`, `norm_momentum`, `folded`.
      multiple: the side of its images in pixels must be a multiple of this, such as a patch's side.
      any_size: whether weights for one image size work at other sizes; False if a position table
        has an entry for each patch and is not resized.
      stride: input pixels for each pixel or token of the last map; smaller images still run if
        `multiple` allows them.
      last_norm: applies the network's last normalisation to the tokens of any endpoint; None if it
        does not fit them.
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
    last_norm: LastNorm | None = None
    step_cost: float = 6.0

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Names of all outputs, in order of computation."""
        return (*self.outputs, LOGITS)

    @property
    def earlier(self) -> tuple[str, ...]:
        """All maps or tokens but the last: activations from earlier in the network.

        >>> from tl.models import registry
        >>> registry.get("resnet50").earlier
        ('stem', 'stage1', 'stage2', 'stage3')
        """
        return self._spatial[:-1]

    @property
    def _spatial(self) -> tuple[str, ...]:
        return tuple(name for name, output in self.outputs.items() if output.kind != "vector")

    def named_endpoints(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns the endpoints that a config names, each once.

        `earlier` stands for several. `last` is the last map or tokens, also in `last+pooled`.

        Raises:
          UserError: `earlier` is joined with others.

        >>> from tl.models import registry
        >>> registry.get("resnet50").named_endpoints(("earlier", "last+pooled"))
        ('stem', 'stage1', 'stage2', 'stage3', 'stage4+pooled')
        """
        named: list[str] = []
        for name in names:
            if name == EARLIER:
                named += self.earlier
                continue
            parts = [self._spatial[-1] if part == LAST else part for part in name.split("+")]
            if EARLIER in parts:
                raise UserError(
                    f"{EARLIER!r} stands for several endpoints, so it is no part of {name!r}",
                    field="endpoints",
                )
            named.append("+".join(parts))
        return tuple(dict.fromkeys(named))

    def named_modules(self, patterns: Sequence[str]) -> tuple[str, ...]:
        """Returns the patterns of modules that a config names.

        Args:
          patterns: see `tl.train.freezing.phases`. `earlier`, as such or in `!earlier` and
            `earlier@STEP`, stands for the modules of these endpoints.
        """
        named: list[str] = []
        for pattern in patterns:
            stands = re.fullmatch(rf"(!?){EARLIER}(@.*)?", pattern)
            named += (
                [f"{stands[1]}{module}{stands[2] or ''}" for module in self.earlier]
                if stands
                else [pattern]
            )
        return tuple(dict.fromkeys(named))

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


def blocks(stage_sizes: Sequence[int]) -> tuple[str, ...]:
    """Returns the layers of a network from the number of blocks in each stage.

    >>> blocks((1, 2))
    ('stage1/block1', 'stage2/block1', 'stage2/block2')
    """
    return tuple(
        f"stage{i + 1}/block{j + 1}" for i, size in enumerate(stage_sizes) for j in range(size)
    )
