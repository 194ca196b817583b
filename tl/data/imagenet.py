"""The 1,000 classes of ImageNet (ILSVRC 2012) in the order of every public weight set's logits."""

import functools
import pathlib


@functools.cache
def _classes() -> tuple[tuple[str, str], ...]:
    lines = pathlib.Path(__file__).with_name("imagenet_classes.txt").read_text().splitlines()
    return tuple(tuple(line.split(" ", maxsplit=1)) for line in lines)


def wnids() -> tuple[str, ...]:
    """Returns the 1,000 WordNet ids, such as 'n01440764', which name ImageNet's folders."""
    return tuple(wnid for wnid, _ in _classes())


def names() -> tuple[str, ...]:
    """Returns the 1,000 English names, such as 'tench': the first word of each synset.

    Not unique: 'crane' and 'maillot' name two classes each.
    """
    return tuple(name for _, name in _classes())
