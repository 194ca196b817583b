"""What a naming scheme says: rules that give each tensor, from its Flax path, its other name."""

import dataclasses
from collections.abc import Callable, Mapping

TORCH_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
COUNTER = "num_batches_tracked"  # torch counts updates in an int64 scalar; inference ignores it


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How one family of software names the tensors of a network.

    A name with `{a,b}` in it stands for several tensors, the parts of one leaf, one after the other
    along its outputs; with `{a,b:2}` the second one has twice as many.

    Attributes:
      rules: (pattern of a Flax module path, function of its groups to the module's name); groups of
        digits arrive as int.
      parameters: (pattern of a leaf's whole Flax path, function of its groups to the tensor's
        name), for leaves not named after their module, such as a class token.
      aliases: (pattern, replacement) that turns other spellings found in files into the one
        written.
      leaves: Flax leaf, or last module and leaf as in `bn/bias`, to the scheme's leaf.
      shapes: Flax leaf, or last module and leaf, to its shape in this scheme, where that has axes
        of length 1 beside its own, which is -1.
      separator: stands between module and leaf.
      first, second: modules whose kernels a file must have to be in this scheme, or paths of other
        leaves; '' for no second.
      backbone: pattern of the start of each name, except the head's. It tells what belongs to the
        network from what was built on it; '' if every name counts as the network's.
      head_is_conv: the head is a 1x1 convolution, whose kernel is [C, D, 1, 1].
      any_head: whether a linear layer of another name beside the network takes its last features.
      flat: Flax paths of tokens and tables that have no leading axes of length 1 in this scheme.
      cls_position: a position table has an entry for the class token, zeros if the network adds
        none.
      torch: kernels are (out, in, ...) and every batch normalisation has a COUNTER.
      implies_preprocessing: whether all public weights with these names share their arithmetic
        and their preprocessing.
    """

    rules: tuple[tuple[str, Callable[..., str]], ...]
    parameters: tuple[tuple[str, Callable[..., str]], ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    leaves: Mapping[str, str] = dataclasses.field(default_factory=lambda: TORCH_LEAVES)
    shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    separator: str = "."
    first: str = "stem/conv"
    second: str = ""
    backbone: str = ""
    head_is_conv: bool = False
    any_head: bool = True
    flat: tuple[str, ...] = ()
    cls_position: bool = False
    torch: bool = True
    implies_preprocessing: bool = False


BLOCK = r"stage(\d+)/block(\d+)/"  # start of the Flax paths of a block
