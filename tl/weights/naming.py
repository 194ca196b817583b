"""Finds each tensor's name in other software, by naming scheme, and a file's scheme by its names.

The rules run in one direction only. To read a file, compute the name of each leaf of the model and
compare these with the file's names; to write one, use the computed names.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tl.errors import UserError, nearest
from tl.weights.prefixes import PREFIXES
from tl.weights.schemes import efficientnet_lite, resnet, vit
from tl.weights.schemes.scheme import COUNTER, Scheme
from tl.weights.schemes.unknown import EXPECTED, OTHER_NETWORKS

# A file is of the first one that has its names.
SCHEMES: dict[str, Scheme] = {**resnet.SCHEMES, **efficientnet_lite.SCHEMES, **vit.SCHEMES}


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


def parts(name: str) -> list[str]:
    """Returns the tensors that a name stands for, which is itself unless it has braces.

    >>> parts("layer.0.{query,key}.weight")
    ['layer.0.query.weight', 'layer.0.key.weight']
    """
    before, brace, rest = name.partition("{")
    if not brace:
        return [name]
    choices, _, after = rest.partition("}")
    return [f"{before}{choice}{after}" for choice in choices.split(",")]


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
            f"{EXPECTED}, whose first convolution is 7 x 7"
        )
    first, second, third = (
        _filters(scheme, tensors, f"stage1/block1/conv{number}/conv") for number in (1, 2, 3)
    )
    if len(first) != 4 or len(second) != 4 or len(third) != 4:
        return  # basic blocks come in no other kind
    if second[1] < first[0]:
        raise UserError(
            f"it holds a ResNeXt (convolutions of {first[0] // second[1]} groups); {EXPECTED}"
        )
    if first[0] > 64:
        raise UserError(
            f"it holds a Wide ResNet (a first block of {first[0]} channels for 64); {EXPECTED}"
        )


def _filters(scheme: str, tensors: Mapping[str, Any], module: str) -> tuple[int, ...]:
    """Returns the shape of a module's kernel, (out, in, height, width); () if there is none."""
    kernel = tensors.get(source_name(scheme, module, "kernel"))
    shape = () if kernel is None else tuple(kernel.shape)
    if get(scheme).torch or len(shape) != 4:
        return shape
    return shape[3], shape[2], shape[0], shape[1]
