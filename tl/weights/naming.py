"""Finds each tensor's name in other software, by naming scheme, and a file's scheme by its names.

The rules run in one direction only. To read a file, compute the name of each leaf of the model and
compare these with the file's names; to write one, use the computed names.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tl.errors import UserError, nearest
from tl.weights.prefixes import PREFIXES
from tl.weights.schemes import convnext, dinov3, efficientnet_lite, resnet, resnet_v2, vit
from tl.weights.schemes.scheme import COUNTER, Scheme
from tl.weights.schemes.unknown import EXPECTED, OTHER_NETWORKS

# A file is of the first one that has its names.
SCHEMES: dict[str, Scheme] = {
    **resnet.SCHEMES,
    **resnet_v2.SCHEMES,
    **efficientnet_lite.SCHEMES,
    **dinov3.SCHEMES,  # before that of other vision transformers, whose names are among its own
    **vit.SCHEMES,
    **convnext.SCHEMES,
}


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
        leaves = {COUNTER: COUNTER, **found.leaves}
        if called := leaves.get(_in_module(module, leaf)) or leaves.get(leaf):
            return f"{name}{found.separator}{called}"
    raise UserError(
        f"scheme {scheme!r} has no name for {module}/{leaf}: it is another network's; there are "
        + ", ".join(SCHEMES)
    )


def _in_module(module: str, leaf: str) -> str:
    return f"{module.split('/')[-1]}/{leaf}"


def tensor_shape(scheme: str, module: str, leaf: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape that a leaf has in a scheme, with its further axes of length 1.

    Args:
      scheme, module, leaf: as of `source_name`.
      shape: of the leaf, in the scheme's order of axes.
    """
    shapes = get(scheme).shapes
    wider = shapes.get(_in_module(module, leaf)) or shapes.get(leaf)
    return tuple(shape[0] if n == -1 else n for n in wider) if wider else shape


def shares(name: str) -> dict[str, int]:
    """Returns the tensors that a name stands for, to how large each is beside the others.

    It is the name itself unless that has braces.

    >>> shares("pool.{q,kv:2}.bias")
    {'pool.q.bias': 1, 'pool.kv.bias': 2}
    """
    before, brace, rest = name.partition("{")
    if not brace:
        return {name: 1}
    choices, _, after = rest.partition("}")
    divided = [choice.partition(":") for choice in choices.split(",")]
    return {f"{before}{part}{after}": int(share or 1) for part, _, share in divided}


def _first_match(rules: Iterable[tuple[str, Callable[..., str]]], path: str) -> str | None:
    for pattern, name in rules:
        if match := re.fullmatch(pattern, path):
            return name(*(int(g) if g.isdigit() else g for g in match.groups()))
    return None


def canonical(scheme: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `tensors` with a scheme's aliases replaced by the names that it writes.

    A head that is a 1x1 convolution, [C, D, 1, 1], becomes the dense layer that it is, [C, D].
    Tokens and tables get the three axes that they have here.
    """
    renamed: dict[str, Any] = {}
    head = source_name(scheme, "head", "kernel") if get(scheme).head_is_conv else None
    flat = {source_name(scheme, *path.rsplit("/", 1)) for path in get(scheme).flat}
    for name, value in tensors.items():
        new = canonical_name(scheme, name)
        if new in renamed:
            raise UserError(f"two tensors mean {new!r}; {name!r} is one of them")
        if new == head and getattr(value, "shape", ())[2:] == (1, 1):
            value = value.reshape(value.shape[:2])
        if new in flat and hasattr(value, "shape"):
            value = value.reshape((1,) * (3 - value.ndim) + value.shape)
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
    """Returns the names of the tensors that every network of a scheme has, one or two."""
    found = get(scheme)
    return tuple(_landmark(scheme, path) for path in (found.first, found.second) if path)


def _landmark(scheme: str, path: str) -> str:
    module, _, leaf = path.rpartition("/")
    if leaf in get(scheme).leaves or _first_match(get(scheme).parameters, path):
        return source_name(scheme, module, leaf)
    return source_name(scheme, path, "kernel")


def detect(names: Iterable[str]) -> str:
    """Returns the scheme of a file from the names of its tensors.

    Raises:
      UserError: the names belong to another network, or to none that is known.
    """
    names = list(names)
    if set(landmarks("timm_dinov3")) <= set(names):
        return "timm_dinov3"  # a tensor of which tells BEiT and EVA
    for pattern, network in OTHER_NETWORKS:
        if any(map(pattern.fullmatch, names)):
            raise UserError(f"it holds {network}; {EXPECTED}")
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
    found = get(scheme)
    module = found.second if found.second.startswith("stem") else found.first
    if not module.startswith("stem"):
        return
    stem = _filters(scheme, tensors, module)
    if len(stem) == 4 and stem[1] != 3:
        raise UserError(f"it holds a network for images of {stem[1]} channels; expected 3 channels")
    if scheme in convnext.SCHEMES and len(stem) == 4:
        _check_convnext(scheme, stem, tensors)
    if found.second != "stage1/block1/conv1/conv":
        return
    if found.first != "stem/conv":
        _check_deep_stem(stem, tensors)
    elif len(stem) == 4 and stem[2:] != (7, 7):
        raise UserError(
            f"it holds a ResNet for small images (a first convolution of {stem[2]} x {stem[3]}); "
            f"{EXPECTED}, whose first convolution is 7 x 7"
        )
    first, second, third = (
        _filters(scheme, tensors, f"stage1/block1/conv{number}/conv") for number in (1, 2, 3)
    )
    if len(first) != 4 or len(second) != 4 or len(third) != 4:
        return  # basic blocks come in no other kind
    groups, channels = second[0] // second[1], second[0]
    if (groups == 1 and channels <= 64) or (groups, channels) in resnet.BLOCKS.get(scheme, ()):
        return
    kind = f"a ResNeXt of {groups} groups of" if groups > 1 else "a Wide ResNet with a block of"
    raise UserError(
        f"it holds {kind} {channels // groups} channels, which is not known in {scheme} names; "
        f"{EXPECTED}"
    )


def _check_deep_stem(stem: tuple[int, ...], tensors: Mapping[str, Any]) -> None:
    """Raises UserError for a ResNet with a stem of three convolutions other than ResNet-D.

    Args:
      stem: shape of the first convolution, (out, in, height, width).
      tensors: under the names of timm. ResNet-D's shortcuts begin with a pooling, so their
        convolution is number 1.
    """
    pooled = "layer2.0.downsample.0.weight" not in tensors
    if not pooled or stem[:1] != (resnet.DEEP_STEM,):
        raise UserError(
            "it holds a ResNet-C, -S or -T (a stem of three convolutions, the first with filters "
            f"{list(stem)}, and shortcuts with{'' if pooled else 'out'} a pooling); {EXPECTED}, of "
            f"which ResNet-D begins with {resnet.DEEP_STEM} channels and pools"
        )


def _check_convnext(scheme: str, stem: tuple[int, ...], tensors: Mapping[str, Any]) -> None:
    """Raises UserError for a ConvNeXt of another width, stem or MLP.

    Args:
      scheme: of the tensors.
      stem: shape of the first convolution, (out, in, height, width).
      tensors: under the scheme's names.
    """
    other = ""
    if stem[2:] != (4, 4):
        other = f"whose first convolution is {' x '.join(map(str, stem[2:]))}, not 4 x 4"
    elif len(_filters(scheme, tensors, "stage1/block1/fc1")) == 4:
        other = "whose MLPs are convolutions, as timm's from Atto to Nano and timm's tiny_hnf"
    elif stem[0] not in convnext.WIDTHS:
        other = f"of {stem[0]} channels in the first stage; Tiny and Small have 96, Base has 128"
    if other:
        raise UserError(f"it holds a ConvNeXt {other}; {EXPECTED}")


def _filters(scheme: str, tensors: Mapping[str, Any], module: str) -> tuple[int, ...]:
    """Returns the shape of a module's kernel, (out, in, height, width); () if there is none."""
    kernel = tensors.get(source_name(scheme, module, "kernel"))
    shape = () if kernel is None else tuple(kernel.shape)
    if get(scheme).torch or len(shape) != 4:
        return shape
    return shape[3], shape[2], shape[0], shape[1]
