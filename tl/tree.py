"""Trees of arrays by path: `stage1/block1/conv1/bn/scale` is a leaf of nested dictionaries."""

import fnmatch
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from tl.errors import UserError, nearest

Tree = Mapping[str, Any]


def leaves(tree: Tree) -> dict[str, Any]:
    """Returns path to leaf, in the tree's order.

    >>> leaves({"head": {"kernel": 1, "bias": 2}})
    {'head/kernel': 1, 'head/bias': 2}
    """
    return flatten_dict(tree, sep="/")


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dictionaries whose `leaves` these are."""
    return unflatten_dict(leaves, sep="/")


def map_with_path(function: Callable[[str, Any], Any], tree: Tree) -> dict[str, Any]:
    """Returns `tree` with `function(path, leaf)` in place of every leaf."""
    return unflatten({path: function(path, leaf) for path, leaf in leaves(tree).items()})


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern means a leaf, or a module that the leaf belongs to.

    In a pattern `*` stands for any text, `/` too, `?` for a character, `[1-3]` for a range.

    >>> matches("stage1/block1/conv1/bn/scale", "stage1"), matches("stage10/conv/kernel", "stage1")
    (True, False)
    >>> matches("stage1/block1/conv1/bn/scale", "*/bn"), matches("head/kernel", "*/bn")
    (True, False)
    """
    parts = path.split("/")
    return any(
        fnmatch.fnmatchcase("/".join(parts[:length]), pattern)
        for length in range(1, len(parts) + 1)
    )


def select(paths: Iterable[str], patterns: Collection[str], field: str) -> frozenset[str]:
    """Returns the paths that any of the patterns means, less those that one with a `!` means.

    Args:
      paths: of leaves.
      patterns: see `matches`; '!head' takes out of the others what 'head' means.
      field: of the config that the patterns come from, for the error.

    Raises:
      UserError: a pattern means no path, and the text lists the modules there are; or one with a
        `!` takes nothing out.
    """
    paths = list(paths)
    chosen: set[str] = set()
    for pattern in sorted(patterns, key=lambda pattern: pattern.startswith("!")):
        meant = {path for path in paths if matches(path, pattern.removeprefix("!"))}
        if not meant:
            modules = dict.fromkeys(path.split("/")[0] for path in paths)
            raise UserError(
                f"{pattern!r} matches no parameter{nearest(pattern, modules)}; patterns name a "
                f"stage ({', '.join(modules)}) or a path, such as {paths[0]!r} or '*/bn'",
                field=field,
            )
        if not pattern.startswith("!"):
            chosen |= meant
        elif chosen & meant:
            chosen -= meant
        else:
            raise UserError(
                f"{pattern!r} takes nothing out of what the other patterns mean; '*' means all",
                field=field,
            )
    return frozenset(chosen)


def partition(tree: Tree, chosen: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (the leaves whose paths are chosen, the other ones), both as trees."""
    flat = leaves(tree)
    inside = {path: leaf for path, leaf in flat.items() if path in chosen}
    outside = {path: leaf for path, leaf in flat.items() if path not in chosen}
    return unflatten(inside), unflatten(outside)


def merge(tree: Tree, other: Tree) -> dict[str, Any]:
    """Returns one tree of both; a leaf of `other` takes the place of the same one of `tree`."""
    return unflatten({**leaves(tree), **leaves(other)})


def named_leaves(tree: Any) -> dict[str, Any]:
    """Returns path to leaf of any pytree, such as an optimizer's state; None is no leaf.

    >>> named_leaves({"momentum": (1, None)})
    {'momentum/0': 1}
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def differences(expected: Any, found: Any) -> list[str]:
    """Returns a line for each leaf that is missing, unknown, or of another shape or type.

    Args:
      expected, found: pytrees of arrays, or of anything with a shape and a dtype.

    >>> differences({"a": np.zeros(2)}, {"a": np.zeros(3)})
    ['a: expected float64[2], found float64[3]']
    """
    expected, found = named_leaves(expected), named_leaves(found)
    lines = []
    for path in sorted(expected.keys() | found.keys()):
        sides = [_describe(side[path]) if path in side else None for side in (expected, found)]
        if sides[1] is None:
            lines.append(f"{path}: expected {sides[0]}, found nothing")
        elif sides[0] is None:
            lines.append(f"{path}: expected nothing, found {sides[1]}")
        elif sides[0] != sides[1]:
            lines.append(f"{path}: expected {sides[0]}, found {sides[1]}")
    return lines


def digest(variables: Any) -> str:
    """Returns the SHA-256 over the names, types, shapes and bytes of a pytree of arrays."""
    leaves, structure = jax.tree.flatten(variables)
    sha256 = hashlib.sha256(str(structure).encode())
    for leaf in map(np.asarray, leaves):
        sha256.update(f"{leaf.dtype}{leaf.shape}".encode())
        sha256.update(leaf.tobytes())
    return sha256.hexdigest()


def _describe(leaf: Any) -> str:
    if not hasattr(leaf, "dtype"):  # a Python number; an array need not cross the bus
        leaf = np.asarray(leaf)
    return f"{leaf.dtype}{list(leaf.shape)}"
