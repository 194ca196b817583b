"""Chooses train, val and test among a data set's splits; holds out a part of train for test."""

import dataclasses
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32, Int64

from tl.data import grouping, splits
from tl.data.encoded import Example
from tl.errors import UserError, first_of, nearest

VAL_NAMES = ("val", "validation", "valid")
USUAL = {"train": ("train", "training"), "val": VAL_NAMES, "test": ("test", "testing")}
NO_LABEL = "-1"  # among integers, as in TFDS and scikit-learn

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The splits that a run wants.

    Attributes:
      train, test: names.
      val: a name, or None for one with a usual name, if there is one.
      test_fraction: share of train that becomes the test split where there is none.
      seed: of that division.
      labelled: whether classes are needed.
    """

    train: str = "train"
    val: str | None = None
    test: str = "test"
    test_fraction: float = 0.2
    seed: int = 0
    labelled: bool = True


S = TypeVar("S")


@runtime_checkable
class Divisible(Protocol):
    """A split of which a part can be held out: a `tl.data.sources.Source` with more."""

    name: str
    version: str
    split: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    id_bytes: int
    warnings: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Example: ...

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the labels; below 0 for none."""

    def groups(self) -> Int64[np.ndarray, " n"] | None:
        """Returns a number for each row, equal for rows that no division may part."""

    def warn(self, text: str) -> None:
        """Logs a warning and keeps it for the run's result."""

    def subset(self: S, rows: Int[np.ndarray, " rows"], split: str) -> S:
        """Returns a source of some of the rows."""


def named(there: Collection[str], wanted: Wanted, of: str) -> dict[str, str]:
    """Returns the names of the splits that are train, test and val, as far as they are there.

    A usual name, such as 'train', also finds the split's other usual names, such as 'Training'. So
    does val where `wanted` does not name it.

    Args:
      there: names of all splits; '' alone where the data set is not divided.
      wanted: the names asked for.
      of: what has these splits, for errors.

    Raises:
      UserError: there is no train, or no split of a name that somebody chose.
    """
    if set(there) == {""}:
        asked = {"train": wanted.train, "val": wanted.val, "test": wanted.test}
        for part, name in asked.items():
            if name not in (None, "", USUAL[part][0]):
                raise UserError(
                    f"there is no {name!r}, for {of} is not divided into splits",
                    field=f"data.{part}",
                )
        return {"train": ""}
    found = {"train": one(there, wanted.train, "train", of)}
    if _find(there, wanted.test, "test") or wanted.test != "test":
        found["test"] = one(there, wanted.test, "test", of)
    if wanted.val is not None:
        found["val"] = one(there, wanted.val, "val", of)
    else:
        others = [name for name in there if name not in found.values()]
        if val := _find(others, "val", "val"):
            found["val"] = val
    return found


def _tell_of_unused(
    there: Mapping[str, int | None], named: Mapping[str, str], opened: Mapping[str, Divisible]
) -> None:
    """Tells which splits are not used. It is a warning where one of them may be the test split."""
    counts = {name: count for name, count in there.items() if name not in named.values()}
    if not counts:
        return
    listed = ", ".join(
        name if count is None else f"{name} ({count:,} images)"
        for name, count in sorted(counts.items())
    )
    text = f"these splits are not used: {listed}"
    if "test" in named:
        _log.info("%s: %s", opened["train"].name, text)
    else:
        opened["train"].warn(f"{text}; `data.test=NAME` tests on one of them")


def one(there: Collection[str], name: str, part: str, of: str) -> str:
    """Returns the name of one split.

    Args:
      there: names of all splits; '' alone where the data set is not divided.
      name: asked for.
      part: 'train', 'val' or 'test', whose usual names count as one.
      of: what has these splits, for errors.

    Raises:
      UserError: there is no such split.
    """
    found = _find(there, name, part)
    if found is not None:
        return found
    if set(there) == {""}:
        raise UserError(
            f"expected '', which is all of it: {of} is not divided into splits, so there is no "
            f"{name!r}",
            field=f"data.{part}",
        )
    raise UserError(f"{of} has no split {name!r}{nearest(name, there)}", field=f"data.{part}")


def _find(there: Collection[str], name: str, part: str) -> str | None:
    if name in there:
        return name
    if name in USUAL[part]:
        return next((n for usual in USUAL[part] for n in there if n.lower() == usual), None)
    return None


def warn_of_no_labels(opened: Mapping[str, Divisible]) -> None:
    """Warns where images have no label, since no run fits or scores them."""
    for source in opened.values():
        if count := int(np.sum(source.labels() < 0)):
            of = f" of {source.split}" if source.split else ""
            source.warn(f"{count:,} of {len(source):,} images{of} have no label (-1): left out")


def warn_of_absent_classes(opened: Mapping[str, Divisible]) -> None:
    """Warns where val or test has no image of a class; of train see `tl.results.warnings`."""
    for part, source in opened.items():
        if part == "train":
            continue
        held = set(source.labels().tolist())
        if absent := [name for label, name in enumerate(source.classes) if label not in held]:
            source.warn(
                f"{part} has no image of {len(absent)} of {len(source.classes)} classes: "
                f"{first_of(absent)}"
            )


D = TypeVar("D", bound=Divisible)


def with_test(
    opened: Mapping[str, D], wanted: Wanted, written: Callable[[str], str] = repr
) -> dict[str, D]:
    """Returns the parts with a test split. Where there was none, it is a share of train.

    The share is stratified. Rows of one group (`groups` of the source) stay together.

    Args:
      opened: `train` and, where they are there, `val` and `test`.
      wanted: the names, the share and the seed.
      written: how the name of a split is written in messages.

    Raises:
      UserError: a share or seed that cannot be used; no class has two images that differ, or two
        groups.
    """
    if "test" in opened:
        return dict(opened)
    whole, fraction, seed = opened["train"], wanted.test_fraction, wanted.seed
    if not 0.0 < fraction < 1.0:
        raise UserError(
            f"expected a share between 0 and 1, got {fraction}", field="data.test_fraction"
        )
    if seed < 0:
        raise UserError(f"expected at least 0, got {seed}", field="data.seed")
    kept, held = np.arange(len(whole)), np.zeros(0, np.int64)
    no_group: UserError | None = None
    if whole.classes:
        try:
            kept, held = splits.holdout(whole.labels(), fraction, seed, whole.groups())
        except UserError as error:
            no_group = error
    if not len(held):
        if not wanted.labelled:
            return dict(opened)
        lacks = f"{whole.name} has no test split, and "
        if no_group and grouping.names_of(whole) is not None:
            raise UserError(f"{lacks}{no_group}") from no_group
        raise UserError(
            f"{lacks}no class has a second image, unlike the first, to hold out for testing; give "
            "more images of each class, or a test split"
        )
    parts = {**opened, "train": whole.subset(kept, wanted.train)}
    parts["test"] = whole.subset(held, wanted.test)
    parts["train"].warnings = whole.warnings
    counted = f"{len(held):,} of the {len(whole):,} images"
    if not whole.split:  # nothing else could be meant
        _log.info(
            "%s: there is no test split: %s are held out for testing (seed %d)",
            whole.name, counted, seed,
        )  # fmt: skip
        return parts
    text = (
        f"there is no {written(wanted.test)}: {counted} of {written(whole.split)} are held out for "
        f"testing (seed {seed})"
    )
    if "val" in opened:
        val = opened["val"].split
        text += f". To test on {written(val)} instead, give `data.test={val}`"
    parts["test"].warn(text)
    return parts


def row_id(split: str, row: int) -> str:
    """Returns the id of an image without a name: its split and its number there."""
    return f"{split or 'row'}/{row}"


def group_names(cells: Iterable[str], split: str) -> grouping.Names:
    """Returns the name of each row's group; a row without one stands alone, by its id."""
    return np.array([cell or row_id(split, row) for row, cell in enumerate(cells)])


def class_names(
    labels: Mapping[str, Sequence[str]], place: Callable[[str, int], str], *, least: int = 2
) -> list[str]:
    """Returns the names of the classes in the order of their labels.

    Integers are in the order of their size, other names in that of the alphabet. Beside other
    integers -1 is no class, but means that a row has none.

    Args:
      labels: the name of each row's class, by part. Train decides the classes where it is there.
      place: (part, row) -> where a row is, for errors.
      least: number of classes that train must have.

    Raises:
      UserError: train has fewer classes, or another part has one that train lacks.
    """
    deciding = {"train": labels["train"]} if "train" in labels else labels
    names = {name for of_part in deciding.values() for name in of_part}
    numbers = all(n.removeprefix("-").isdecimal() and str(int(n)) == n for n in names)
    no_class = {NO_LABEL} if numbers else set()
    classes = sorted(names - no_class, key=int) if numbers else sorted(names)
    if "train" in labels and len(classes) < least:
        got = f"{classes[0]!r} alone" if classes else "none"
        if names & no_class:
            got += f"; {NO_LABEL} means no label: write a class as another number, or as text"
        raise UserError(f"expected two classes or more, got {got}", field="data.train")
    known = names | no_class
    for part, of_part in labels.items():
        if unknown := [row for row, name in enumerate(of_part) if name not in known]:
            name = of_part[unknown[0]]
            raise UserError(
                f"{place(part, unknown[0])}: train has no class {name!r}; the classes of "
                f"{len(unknown):,} images of {part} are not train's{nearest(name, classes)}"
            )
    return classes


def label_numbers(names: Sequence[str], classes: Sequence[str]) -> Int32[np.ndarray, " n"]:
    """Returns the number of each row's class, see `class_names`; -1 for a row without one."""
    number = {name: label for label, name in enumerate(classes)}
    return np.array([number.get(name, -1) for name in names], np.int32)


@runtime_checkable
class DataSet(Protocol):
    """A data set whose splits have names."""

    @property
    def where(self) -> str:
        """What messages call it, such as its path."""

    def splits(self) -> Mapping[str, int | None]:
        """Returns the names of the splits; '' alone where it is not divided.

        With each comes its number of images, None where that is not known before it is read.
        """

    def open(self, named: Mapping[str, str]) -> Mapping[str, Divisible]:
        """Returns the sources of some splits.

        Args:
          named: 'train', 'val' or 'test' to the split that it is. Train decides the classes.
        """


def open_parts(data_set: DataSet, wanted: Wanted) -> dict[str, Divisible]:
    """Returns the sources of a run under 'train', 'test' and, where it is a split, 'val'.

    Raises:
      UserError: a split that is not there or cannot be made, or what `data_set` raises.
    """
    there = data_set.splits()
    found = named(there, wanted, data_set.where)
    opened = data_set.open(found)
    _tell_of_unused(there, found, opened)
    if wanted.labelled:
        warn_of_no_labels(opened)
    warn_of_absent_classes(opened)
    return with_test(opened, wanted)


def open_one(data_set: DataSet, name: str, part: str) -> Divisible:
    """Returns the source of one split.

    Args:
      data_set: whose split.
      name: of the split; '' for all of a data set that is not divided.
      part: 'train', 'val' or 'test': what the split is used as.

    Raises:
      UserError: there is no such split, or what `data_set` raises.
    """
    opened = data_set.open({part: one(data_set.splits(), name, part, data_set.where)})
    warn_of_no_labels(opened)
    return opened[part]
