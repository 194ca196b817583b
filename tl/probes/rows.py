"""Rows of features that may lie on disk: read by chunk, or whole where they are few."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

CHUNK_ELEMENTS = 1 << 23  # 32 MiB of float32: what is looked at at a time
_KEPT_BYTES = 1 << 30  # of features that are read once and kept


@dataclass(frozen=True)
class View:
    """Some rows of features that lie elsewhere. Indexed like an array, it reads them.

    Attributes:
      read: numbers int [m] -> features float32 [m, D].
      numbers: int [N], of the rows.
      width: D.
    """

    read: Callable[[np.ndarray], np.ndarray]
    numbers: Int[np.ndarray, " n"]
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self.numbers), self.width

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice | np.ndarray) -> Float[np.ndarray, "m d"]:
        return self.read(self.numbers[rows])


Features = Float[np.ndarray, "_ _"] | View


def take(features: Features, rows: slice | np.ndarray) -> Features:
    """Returns some rows. Of a view nothing is read; a slice of an array copies nothing."""
    if isinstance(features, View):
        return replace(features, numbers=features.numbers[rows])
    return features[rows]


def kept(features: Features) -> Features:
    """Returns the features in memory where they take less than a GiB, else as they are."""
    n, width = features.shape
    return features[:] if 4 * n * width <= _KEPT_BYTES else features


def joined(
    parts: Sequence[tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]], width: int
) -> View:
    """Returns the rows of several stores as one view.

    Args:
      parts: of each store: numbers int [m] -> features float32 [m, D], and the rows to take.
      width: D.
    """
    ends = np.cumsum([len(rows) for _, rows in parts])

    def read(numbers: np.ndarray) -> np.ndarray:
        found = np.empty((len(numbers), width), np.float32)
        part_of = np.searchsorted(ends, numbers, side="right")
        for part, (of_store, rows) in enumerate(parts):
            here = part_of == part
            if here.any():
                found[here] = of_store(rows[numbers[here] - (ends[part] - len(rows))])
        return found

    return View(read, np.arange(ends[-1]), width)


def chunks(length: int, width: int) -> Iterator[slice]:
    """Yields slices that cover `length` rows of `width`, about `CHUNK_ELEMENTS` in each.

    There is one at least, which of no rows is empty.
    """
    step = max(1, CHUNK_ELEMENTS // max(1, width))
    return (slice(start, min(start + step, length)) for start in range(0, max(1, length), step))


class Rows(NamedTuple):
    """Features float [N, D] and their labels int [N]."""

    features: Features
    labels: Int[np.ndarray, " n"]

    def take(self, rows: slice | Int[np.ndarray, " m"]) -> "Rows":
        """Returns some of the rows, see `take`."""
        return Rows(take(self.features, rows), self.labels[rows])
