"""Backbones by name.

To add a network, write a module with its `BACKBONES`, name it here, and give it a naming scheme in
`tl.weights.schemes` and entries in `tl.weights.catalog`. tests/test_models_registry.py then checks
the contract.
"""

from typing import Any

from tl.errors import UserError, nearest
from tl.models import convnext, dinov3, efficientnet_lite, resnet, resnet_v2, vit
from tl.models.backbone import Backbone, Network

_BACKBONES = {
    backbone.name: backbone
    for family in (resnet, resnet_v2, efficientnet_lite, vit, dinov3, convnext)
    for backbone in family.BACKBONES
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


def family(name: str) -> str:
    """Returns the name of the file that a network is in, such as 'resnet'.

    Raises:
      UserError: no such backbone.
    """
    return get(name).module.__module__.rpartition(".")[2]


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
