"""Groups of images that belong together, such as all of one patient, one burst or one site."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int64, Shaped

from tl.errors import UserError, first_of

Names = Shaped[np.ndarray, " n"]

_NAMED = 3  # in a message, at most


@runtime_checkable
class Named(Protocol):
    """A split whose images may have groups that the user named."""

    @property
    def split(self) -> str:
        """As the user named it."""

    def group_names(self) -> Names | None:
        """Returns the name of each row's group, str [N], the same in every split; None for none."""


def names_of(source: object) -> Names | None:
    """Returns the names of the groups of a source's rows, None where the user named none."""
    return source.group_names() if isinstance(source, Named) else None


def by_pattern(paths: Sequence[str], pattern: str) -> list[str]:
    r"""Returns what a pattern finds in each path: its groups, joined, or all of what it matches.

    >>> by_pattern(["cat/p7_1.png", "dog/p12_4.png"], r"(p\d+)_")
    ['p7', 'p12']

    Args:
      paths: of images, relative to the data set's folder.
      pattern: a regular expression, which is searched for in a path.

    Raises:
      UserError: it is no regular expression, or it finds nothing in a path.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"{pattern!r} is no regular expression: {error}", field="data.group_pattern"
        ) from error
    found = [compiled.search(path) for path in paths]
    if without := [path for path, match in zip(paths, found) if match is None]:
        few = ", ".join(without[:_NAMED])
        part = f"(?:{pattern})" if compiled.groups else f"({pattern})"
        raise UserError(
            f"{pattern!r} finds nothing in {len(without):,} of {len(paths):,} paths, such as "
            f"{few}; {f'.*?{part}|.*'!r} makes each of these a group of its own",
            field="data.group_pattern",
        )
    return ["/".join(filter(None, match.groups())) or match[0] for match in found if match]


def numbers(names: Names | None) -> Int64[np.ndarray, " n"] | None:
    """Returns a number for each row, equal for equal names; None without names."""
    return None if names is None else np.unique(names, return_inverse=True)[1].astype(np.int64)


def joined(
    first: Int[np.ndarray, " n"] | None, second: Int[np.ndarray, " n"] | None
) -> Int64[np.ndarray, " n"] | None:
    """Returns the groups that two kinds of groups make: rows that share either share the result.

    >>> joined(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 1]
    """
    if first is None or second is None:
        one = second if first is None else first
        return None if one is None else one.astype(np.int64)
    from scipy import sparse  # a fifth of a second to import
    from scipy.sparse import csgraph

    a, b = (np.unique(groups, return_inverse=True)[1] for groups in (first, second))
    count = int(a.max(initial=-1)) + 1
    nodes = count + int(b.max(initial=-1)) + 1
    edges = sparse.coo_array((np.ones(len(a)), (a, count + b)), shape=(nodes, nodes))
    return csgraph.connected_components(edges, directed=False)[1][a].astype(np.int64)


def check_apart(opened: Mapping[str, object]) -> None:
    """Raises UserError where a group that the user named lies in two splits.

    Args:
      opened: `train`, `test` and, where there is one, `val`; splits that are not `Named` are passed
        over.
    """
    names = {
        part: set(found.tolist())
        for part, source in opened.items()
        if (found := names_of(source)) is not None
    }
    for a, b in itertools.combinations(names, 2):
        if shared := sorted(names[a] & names[b]):
            count = "1 group has" if len(shared) == 1 else f"{len(shared):,} groups have"
            raise UserError(
                f"{count} images in {a} and in {b}: "
                f"{first_of(shared, _NAMED)}; put each wholly into one of the two, or "
                "leave the groups out"
            )
