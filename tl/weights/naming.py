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
_LITE_UNITS = ("expand", "depthwise", "project")


def _timm_lite_block(stage: int, block: int, unit: str, kind: str) -> str:
    # timm numbers by position. The first stage has no expansion, so its names shift by one.
    units = _LITE_UNITS[1:] if stage == 1 else _LITE_UNITS
    convs = ("conv_dw", "conv_pw") if stage == 1 else ("conv_pw", "conv_dw", "conv_pwl")
    index = units.index(unit)
    name = convs[index] if kind == "conv" else f"bn{index + 1}"
    return f"blocks.{stage - 1}.{block - 1}.{name}"


def _lite_package(second: str, *first_blocks: int) -> Scheme:
    """Returns the PyPI packages' names, which number blocks through the whole network.

    Args:
      second: see `Scheme`.
      *first_blocks: number of each stage's first block in the network.
    """
    return Scheme(
        rules=(
            (r"stem/(conv|bn)", lambda kind: {"conv": "_conv_stem", "bn": "_bn0"}[kind]),
            (
                _STAGE + r"(\w+)/(conv|bn)",
                lambda stage, block, unit, kind: (
                    f"_blocks.{first_blocks[stage - 1] + block - 1}."
                    + (f"_{unit}_conv" if kind == "conv" else f"_bn{_LITE_UNITS.index(unit)}")
                ),
            ),
            (r"top/(conv|bn)", lambda kind: {"conv": "_conv_head", "bn": "_bn1"}[kind]),
            (r"head", lambda: "_fc"),
        ),
        backbone=r"_(conv_stem|bn0|blocks|conv_head|bn1)\.",
        second=second,
        implies_preprocessing=True,
    )


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
        # Names of nn.Sequential(*resnet.children()), which tutorials make a backbone of.
        aliases=(
            (r"^0\.(?=weight$)", "conv1."),
            (r"^1\.(?=(weight|bias|running_mean|running_var|num_batches_tracked)$)", "bn1."),
            *((rf"^{i + 3}\.(?=\d+\.)", f"layer{i}.") for i in (1, 2, 3, 4)),
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
    # Lite1's and Lite2's, before Lite0's: they have all names that tell Lite0.
    "efficientnet_lite1": _lite_package("stage7/block1/project/conv", 0, 1, 4, 7, 11, 15, 20),
    "efficientnet_lite": _lite_package("stage1/block1/depthwise/conv", 0, 1, 3, 5, 8, 11, 15),
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

_EXPECTED = "expected a plain ResNet or an EfficientNet-Lite"
# Networks that are not known here, told by one of their names, whatever stands before it. The first
# ones have names like a plain ResNet's or EfficientNet's and other arithmetic.
_OTHER_NETWORKS = tuple(
    (re.compile(rf"(?:.*[./])?(?:{pattern})"), network)
    for pattern, network in (
        (r"stage2\.0\.branch1\..*", "a ShuffleNet"),
        (r"features\.3\.squeeze\.weight", "a SqueezeNet"),
        (r"conv1\.0\.weight", "a ResNet-C, -D, -S or -T (a stem of three convolutions)"),
        (
            r"stages\.0\.blocks\.0\.norm1\.weight|conv2_block1_preact_bn/gamma",
            "a pre-activation ResNet-v2",
        ),
        (r"layer1\.0\.convs\.0\.weight", "a Res2Net"),
        (r"layer1\.0\.conv2\.(conv|fc1)\.weight", "a ResNeSt or SK-ResNet"),
        (r"layer1\.0\.(se|se_module|attn|attention|cbam)\..*", "a ResNet with channel attention"),
        (r"layer1\.0\.bn\d\.IN\.weight", "an IBN-Net (instance and batch normalisation)"),
        (
            r"layer2\.0\.shortcut\.0\.weight",
            "a ResNet for small images (with `shortcut` in its blocks)",
        ),
        (
            r"blocks\.\d+\.\d+\.se\..*|_blocks\.\d+\._se_reduce\.weight|block1a_se_reduce/kernel",
            "an EfficientNet or MobileNet with channel attention",
        ),
        (r"layers\.0\.blocks\.0\.attn\..*|features\.1\.0\.attn\..*", "a Swin Transformer"),
        (
            r"blocks\.0\.attn\..*|layer\.0\.attention\.attention\.query\.weight|"
            r"encoder_layer_0\.self_attention\..*|resblocks\.0\.attn\..*",
            "a Vision Transformer",
        ),
        (
            r"stages\.0\.(blocks\.0\.conv_dw|0\.dwconv|layers\.0\.dwconv)\.weight|"
            r"features\.1\.0\.layer_scale",
            "a ConvNeXt",
        ),
        (r"features\.denseblock1\..*", "a DenseNet"),
        (r"features\.0\.0\.weight|expanded_conv_.*", "a MobileNet, or torchvision's EfficientNet"),
        (r"features\.0\.weight|block1_conv1/kernel", "a VGG or AlexNet"),
        (r"(Conv2d_1a_3x3|inception3a\.branch1)\.conv\.weight", "an Inception network"),
        (r"trunk_output\.block1\..*|s1\.b1\.conv1\.conv\.weight", "a RegNet"),
    )
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
        if any(map(pattern.fullmatch, names)):
            raise UserError(f"it holds {network}; {_EXPECTED}")
    if "layer1.0.bn1.weight" in names and "layer1.0.bn1.running_mean" not in names:
        raise UserError(
            "it holds a ResNet without running statistics (group normalisation?); expected batch "
            "normalisation"
        )
    for count in (2, 1):  # of a network that was cut short only the first may be there
        for scheme in SCHEMES:
            if set(landmarks(scheme)[:count]) <= canonical(scheme, dict.fromkeys(names)).keys():
                return scheme
    raise UserError(
        f"no known naming scheme has these {len(names)} tensors, such as "
        + ", ".join(map(repr, sorted(names)[:3]))
        + "; a self-supervised or training checkpoint needs its prefix rule: "
        + ", ".join(PREFIXES)
        + " (`weights_prefix`)"
    )


def check_shapes(scheme: str, tensors: Mapping[str, Any]) -> None:
    """Raises UserError for a network with the names of one known here, and other shapes.

    Args:
      scheme: a key of `SCHEMES`.
      tensors: name to array.
    """
    tensors = canonical(scheme, tensors)
    if get(scheme).first != "stem/conv":
        return
    stem = _filters(scheme, tensors, "stem/conv")
    if len(stem) == 4 and stem[1] != 3:
        raise UserError(f"it holds a network for images of {stem[1]} channels; expected 3 channels")
    if get(scheme).second != "stage1/block1/conv1/conv":
        return
    if len(stem) == 4 and stem[2:] != (7, 7):
        raise UserError(
            f"it holds a ResNet for small images (a first convolution of {stem[2]} x {stem[3]}); "
            f"{_EXPECTED}, whose first convolution is 7 x 7"
        )
    first, second, third = (
        _filters(scheme, tensors, f"stage1/block1/conv{number}/conv") for number in (1, 2, 3)
    )
    if len(first) != 4 or len(second) != 4 or len(third) != 4:
        return  # basic blocks come in no other kind
    if second[1] < first[0]:
        raise UserError(
            f"it holds a ResNeXt (convolutions of {first[0] // second[1]} groups); {_EXPECTED}"
        )
    if first[0] > 64:
        raise UserError(
            f"it holds a Wide ResNet (a first block of {first[0]} channels for 64); {_EXPECTED}"
        )


def _filters(scheme: str, tensors: Mapping[str, Any], module: str) -> tuple[int, ...]:
    """Returns the shape of a module's kernel, (out, in, height, width); () if there is none."""
    kernel = tensors.get(source_name(scheme, module, "kernel"))
    shape = () if kernel is None else tuple(kernel.shape)
    if get(scheme).torch or len(shape) != 4:
        return shape
    return shape[3], shape[2], shape[0], shape[1]
