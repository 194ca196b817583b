"""Divides the rows of the splits into those to train on, to choose on and to test on."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

import numpy as np

from tl.data import splits
from tl.errors import UserError


class Labelled(Protocol):
    """A source of images or a store of features."""

    def labels(self) -> np.ndarray:
        """Returns the labels, int32 [N]; below 0 for rows to leave out."""


L = TypeVar("L", bound=Labelled)


def divide(
    opened: Mapping[str, L],
    k: int,
    seed: int,
    val_fraction: float | None,
    groups: np.ndarray | None = None,
) -> dict[str, tuple[L, np.ndarray]]:
    """Returns `train`, `val` and `test`, each as the split it lies in and its rows there.

    Args:
      opened: `train`, `test` and, where val is a split of its own, `val`.
      k: examples of each class, train and val together; 0 for all.
      seed: of the choice and of the carving.
      val_fraction: share of the chosen training rows that becomes val; it is not read where
        `opened` has `val`, as a folder may without the config naming it.
      groups: int [N] of train's rows, none of which is divided (`tl.data.sources.groups`).

    Raises:
      UserError: too few examples.
    """
    fraction = None if "val" in opened else val_fraction
    train, val = splits.train_and_val(opened["train"].labels(), k, fraction, seed, groups)
    labelled = {split: np.flatnonzero(source.labels() >= 0) for split, source in opened.items()}
    parts = {
        "train": (opened["train"], train),
        "val": (opened["val"], labelled["val"]) if val is None else (opened["train"], val),
        "test": (opened["test"], labelled["test"]),
    }
    for part, (_, rows) in parts.items():
        if not len(rows):
            raise UserError(f"no image is left for {part}; give more examples a class")
    return parts


def labels_of(parts: Mapping[str, tuple[Labelled, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the labels of each part's rows."""
    return {part: source.labels()[rows] for part, (source, rows) in parts.items()}
