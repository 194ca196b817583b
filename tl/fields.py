"""Nested fields, as configs and JSON have them, under dotted names such as 'train.epochs'."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

# Fields of `configs/common.py` that are younger than some runs, and what those runs did, as JSON.
ADDED = {
    "train.loss": "softmax",
    "extract.shared_endpoints": [],
    "weights_average": "",
    "weights_classes": "",
    "data.allow_duplicates": False,
    "data.image_column": "",
    "data.label_column": "",
    "data.split_column": "",
    "data.group_column": "",
    "data.group_pattern": "",
    "train.sharding": "replicated",
    "train.remat": False,
}
# Fields that may change where a run goes on: where the data lie, which it tells by their content,
# and how memory is used, on which no number depends but for its rounding.
MAY_CHANGE = ("data.data_dir", "train.sharding", "train.remat")


@runtime_checkable
class Tree(Protocol):
    """Values by name, as a dictionary or a config has them."""

    def items(self) -> Iterable[tuple[str, Any]]:
        """Returns names with their values, some of which may be trees themselves."""


def flat(tree: Tree) -> dict[str, Any]:
    """Returns the dotted name and the value of every field that is not itself a tree, in order.

    >>> flat({"run": "probe", "data": {"name": "digits", "seed": 0}})
    {'run': 'probe', 'data.name': 'digits', 'data.seed': 0}
    """
    fields: dict[str, Any] = {}
    for name, value in tree.items():
        if hasattr(value, "items"):  # takes a tenth of the time of `isinstance` of a protocol
            fields |= {f"{name}.{inner}": leaf for inner, leaf in flat(value).items()}
        else:
            fields[name] = value
    return fields


def config_fields(config: Tree) -> dict[str, Any]:
    """Returns the flat fields of a run's config, also those that were added after the run.

    >>> fields = config_fields({"train": {"epochs": 10}})
    >>> fields["train.epochs"], fields["train.loss"]
    (10, 'softmax')
    """
    return ADDED | flat(config)


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tree that `flat` makes the fields of.

    >>> nested({"run": "probe", "data.name": "digits"})
    {'run': 'probe', 'data': {'name': 'digits'}}
    """
    tree: dict[str, Any] = {}
    for field, value in fields.items():
        *sections, leaf = field.split(".")
        here = tree
        for section in sections:
            here = here.setdefault(section, {})
        here[leaf] = value
    return tree


def differences(asked: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """Returns one line for each field that differs, with both sides.

    >>> differences({"data": {"split": "val", "count": 3}}, {"data": {"split": "test", "count": 3}})
    ["data.split: asked 'val', stored 'test'"]
    """
    asked, stored = flat(asked), flat(stored)
    return [
        f"{name}: asked {asked.get(name)!r}, stored {stored.get(name)!r}"
        for name in sorted(asked | stored)
        if asked.get(name) != stored.get(name)
    ]
