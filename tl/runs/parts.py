"""The rows to train on, to choose on and to test on, and their features."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from tl.data import splits
from tl.data.splits import Fold
from tl.errors import UserError
from tl.features.store import FeatureStore
from tl.probes.rows import Features, joined, kept


class Labelled(Protocol):
    """A source of images or a store of features."""

    def labels(self) -> np.ndarray:
        """Returns the labels, int32 [N]; below 0 for rows to leave out."""


L = TypeVar("L", bound=Labelled)


@dataclasses.dataclass(frozen=True)
class Division(Generic[L]):
    """The rows of a probe.

    Attributes:
      parts: `train`, `val` and `test`, each as the split it lies in and its rows there. In
        cross-validation val is the rows of train that the folds hold out, fold after fold.
      folds: of the rows of `fitted`; several in cross-validation.
    """

    parts: Mapping[str, tuple[L, np.ndarray]]
    folds: Sequence[Fold]

    @property
    def fitted(self) -> list[tuple[L, np.ndarray]]:
        """The parts that what was chosen is refitted to."""
        names = ("train", "val") if len(self.folds) == 1 else ("train",)
        return [self.parts[name] for name in names]

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows of each part; in cross-validation no row is kept from train as val."""
        counts = {part: len(rows) for part, (_, rows) in self.parts.items()}
        return counts if len(self.folds) == 1 else counts | {"val": 0}


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
    return _checked(
        {
            "train": (opened["train"], train),
            "val": (opened["val"], labelled["val"]) if val is None else (opened["train"], val),
            "test": (opened["test"], labelled["test"]),
        }
    )


def divide_for_probe(
    opened: Mapping[str, L],
    k: int,
    seed: int,
    val_fraction: float | None,
    folds: int | None = None,
    groups: np.ndarray | None = None,
) -> Division[L]:
    """Returns the rows of a probe.

    Args:
      opened, k, seed, val_fraction, groups: see `divide`.
      folds: of train, to choose by cross-validation; None where val is held out.

    Raises:
      UserError: too few examples, or too few groups.
    """
    if folds is None:
        parts = divide(opened, k, seed, val_fraction, groups)
        fit, choose = (len(parts[part][1]) for part in ("train", "val"))
        return Division(parts, splits.one_fold(fit, choose))
    train, test = opened["train"], opened["test"]
    rows, held = splits.cross_validation(train.labels(), k, folds, seed, groups)
    found = splits.folds_of(held)
    val = rows[splits.chosen_on(found, len(rows))]
    parts = {
        "train": (train, rows),
        "val": (train, val),
        "test": (test, np.flatnonzero(test.labels() >= 0)),
    }
    return Division(_checked(parts), found)


def _checked(parts: dict[str, tuple[L, np.ndarray]]) -> dict[str, tuple[L, np.ndarray]]:
    for part, (_, rows) in parts.items():
        if not len(rows):
            raise UserError(f"no image is left for {part}; give more examples a class")
    return parts


def labels_of(parts: Mapping[str, tuple[Labelled, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the labels of each part's rows."""
    return {part: source.labels()[rows] for part, (source, rows) in parts.items()}


def stored(parts: Sequence[tuple[FeatureStore, np.ndarray]], endpoint: str) -> Features:
    """Returns the features of one part after the other, left on disk where they are many.

    Args:
      parts: stores and their rows, one at least.
      endpoint: of the stores; 'a+b' concatenates.
    """
    readers = [(functools.partial(store.read, endpoint), rows) for store, rows in parts]
    return kept(joined(readers, parts[0][0].width(endpoint)))
