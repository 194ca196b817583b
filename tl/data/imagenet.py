"""The 1,000 classes of ImageNet (ILSVRC 2012) in the order of every public weight set's logits."""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from tl.errors import UserError


@functools.cache
def _classes() -> tuple[tuple[str, str], ...]:
    lines = pathlib.Path(__file__).with_name("imagenet_classes.txt").read_text().splitlines()
    pairs = (line.partition(" ") for line in lines)
    return tuple((wnid, name) for wnid, _, name in pairs)


def wnids() -> tuple[str, ...]:
    """Returns the 1,000 WordNet ids, such as 'n01440764', which name ImageNet's folders."""
    return tuple(wnid for wnid, _ in _classes())


def names() -> tuple[str, ...]:
    """Returns the 1,000 English names, such as 'tench': the first word of each synset.

    Not unique: 'crane' and 'maillot' name two classes each.
    """
    return tuple(name for _, name in _classes())


def indices(classes: Sequence[str]) -> Int[np.ndarray, " classes"]:
    """Returns the ImageNet class, int64 in 0..999, of each class of a data set.

    Args:
      classes: WordNet ids (`n01440764`) or names (`tench`, spaces or underscores).

    Raises:
      UserError: a class that is not ImageNet's, or whose name two classes share.
    """
    by_name: dict[str, list[int]] = {}
    for i, (wnid, name) in enumerate(zip(wnids(), names())):
        by_name.setdefault(wnid, []).append(i)
        by_name.setdefault(name.lower(), []).append(i)
    found = [by_name.get(name.lower().replace("_", " "), []) for name in classes]
    wrong = [name for name, places in zip(classes, found) if len(places) != 1]
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(classes)} classes are not ImageNet's: {', '.join(wrong[:5])}; "
            "expected its WordNet ids, such as n01440764, or names, such as tench"
        )
    return np.array([places[0] for places in found])
