"""Opens a data set by name as random-access sources, one for each split."""

import dataclasses
import itertools
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from tl import paths
from tl.data import (
    arrays,
    content,
    digits,
    division,
    folder,
    grouping,
    hf,
    manifest,
    packed,
    splits,
    tables,
    tar_files,
    tars,
)
from tl.data.encoded import Example
from tl.data.tables import Columns
from tl.errors import UserError
from tl.weights import fetch
from tl.weights.spec import Preprocessing

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Data:
    """Which images, and how they are divided.

    Attributes:
      name: one of KINDS, 'hf:owner/name' of Hugging Face's Hub, or a name of TFDS. With 'folder'
        the data may be of another kind too, which the path tells.
      data_dir: path of the data; or the folder in which TFDS or Hugging Face keep their sets, ''
        for their own default.
      train, test: splits.
      val: a split, a share of train as text, such as '0.2', or folds of train, such as '5fold'.
      test_fraction: share of train that becomes a test split where there is none; TFDS ignores it.
      seed: of that division.
      skip_corrupt: leave out images that do not decode.
      image_column, label_column, split_column, group_column: names of a table's columns, of arrays
        or of a tar's members; '' for usual names (`tl.data.tables`, `arrays`, `tar_scan`).
      group_pattern: regular expression that finds the name of an image's group in its path.
      allow_duplicates: whether splits may share images that are byte for byte the same.
      download: whether a set of TFDS or Hugging Face may be downloaded.

    Raises:
      UserError: `val` is a number outside (0, 1), or fewer than two folds.
    """

    name: str
    data_dir: str = ""
    train: str = "train"
    val: str = "0.2"
    test: str = "test"
    test_fraction: float = 0.2
    seed: int = 0
    skip_corrupt: bool = False
    image_column: str = ""
    label_column: str = ""
    split_column: str = ""
    group_column: str = ""
    group_pattern: str = ""
    allow_duplicates: bool = False
    download: bool = True

    def __post_init__(self) -> None:
        carved_fraction(self.val)
        splits.fold_count(self.val)

    @property
    def columns(self) -> Columns:
        """The names of a table's columns, of arrays, or of a tar's members."""
        return Columns(self.image_column, self.label_column, self.split_column, self.group_column)

    def wanted(self, labelled: bool) -> division.Wanted:
        """Returns the splits that a run wants; `labelled` says whether it needs classes."""
        return division.Wanted(
            self.train, self.val_split, self.test, self.test_fraction, self.seed, labelled
        )

    @property
    def val_split(self) -> str | None:
        """The split that is val; None where rows of train are."""
        return self.val if self.val_fraction is None and self.folds is None else None

    @property
    def val_fraction(self) -> float | None:
        """The share of train that is val; None where it is something else."""
        return carved_fraction(self.val)

    @property
    def folds(self) -> int | None:
        """The number of folds of train that are val in turn; None where it is something else."""
        return splits.fold_count(self.val)


@runtime_checkable
class Examples(Protocol):
    """Labelled arrays with random access: images, or what a network makes of them.

    It may have a method `examples(rows)`, which yields the same as `__getitem__` of each row, where
    reading several at a time is faster.
    """

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of one array, where all share one small shape, else None."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Example: ...

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the labels, without decoding an image; below 0 for none."""


@runtime_checkable
class Source(Examples, Protocol):
    """One split of labelled images, uint8 [H, W, 3] in RGB.

    It may be `Placed`, `Grouped` and `tl.data.grouping.Named` as well.
    """

    @property
    def name(self) -> str:
        """Name of the data set, such as 'cifar10'."""

    @property
    def version(self) -> str:
        """Changes whenever the data do; of files a hash of their names, labels and contents."""

    @property
    def split(self) -> str:
        """As the user named it, such as 'train[:5000]'."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the labels."""

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(H, W, 3) where all images share one small shape, else None."""

    @property
    def id_bytes(self) -> int:
        """Length in UTF-8 that no id exceeds."""


@runtime_checkable
class Placed(Protocol):
    """A source that can tell its images from all others of the data set."""

    def places(self) -> Shaped[np.ndarray, " n"]:
        """Returns a value for each row that no other image of the data set has."""


@runtime_checkable
class Grouped(Protocol):
    """A source some of whose images belong together."""

    def groups(self) -> Int64[np.ndarray, " n"] | None:
        """Returns a number for each row, equal for rows that no division may part.

        None where every row stands alone.
        """


@runtime_checkable
class Drafting(Protocol):
    """A source that can decode its images at a smaller size."""

    def drafted(self, p: Preprocessing) -> object:
        """Returns the same source, whose images come as `tl.data.transforms.decode` says."""


E = TypeVar("E", bound=Examples)


def drafted(source: E, p: Preprocessing | None) -> E:
    """Returns a source whose images come as small as `p.draft` allows, else the source itself.

    Images of one small shape keep it, and so do those of a source that is not `Drafting`.

    Args:
      source: of images that `tl.data.transforms.host_transform` is then called on.
      p: with which it is called; None where something else is.
    """
    found: object = source
    if p is None or not p.draft or source.image_shape or not isinstance(found, Drafting):
        return source
    return cast(E, found.drafted(p))


def groups(source: object) -> Int64[np.ndarray, " n"] | None:
    """Returns the groups of a source's rows, None where every row stands alone."""
    return source.groups() if isinstance(source, Grouped) else None


def carved_fraction(val: float | str) -> float | None:
    """Returns the share of train to carve as val, or None where `val` is no number.

    >>> carved_fraction(0.2), carved_fraction("0.2"), carved_fraction("train[80%:]")
    (0.2, 0.2, None)

    Raises:
      UserError: a number outside (0, 1).
    """
    try:
        fraction = float(val)
    except ValueError:
        if val:
            return None
        fraction = 0.0
    if not 0.0 < fraction < 1.0:
        raise UserError(
            f"expected a share of train between 0 and 1, folds such as 5fold, or a split; "
            f"got {val!r}",
            field="data.val",
        )
    return fraction


@dataclasses.dataclass(frozen=True)
class Kind:
    """How the splits of one kind of data are opened.

    Attributes:
      split: (data, split, field) -> one split; `field` names the split in errors.
      parts: (data, labelled) -> the splits of a run, see `open_sources`. None where they are
        `data.train`, `data.test` and, if it is a split, `data.val`, each opened by `split`.
      groups: fields that can name the groups of such data; others that are set are refused, since
        groups would be parted unseen.
    """

    split: Callable[[Data, str, str], Source]
    parts: Callable[[Data, bool], Mapping[str, Source]] | None = None
    groups: tuple[str, ...] = ()


def _with_named_splits(
    opener: Callable[[Data, bool], division.DataSet], groups: tuple[str, ...]
) -> Kind:
    """Returns the kind of data whose `tl.data.division.DataSet` a function opens."""

    def split(data: Data, name: str, field: str) -> Source:
        part = field.removeprefix("data.") or "test"
        return division.open_one(opener(data, True), name, part)

    def parts(data: Data, labelled: bool) -> Mapping[str, Source]:
        return division.open_parts(opener(data, labelled), data.wanted(labelled))

    return Kind(split, parts, groups)


def _folder_split(data: Data, split: str, field: str) -> Source:
    return folder.open_folder(
        data.data_dir,
        split,
        skip_corrupt=data.skip_corrupt,
        group_pattern=data.group_pattern,
        field=field,
    )


def _folder_parts(data: Data, labelled: bool) -> Mapping[str, Source]:
    return folder.open_splits(
        data.data_dir,
        data.wanted(labelled),
        skip_corrupt=data.skip_corrupt,
        group_pattern=data.group_pattern,
    )


def _manifest(data: Data, labelled: bool) -> manifest.Manifest:
    return manifest.Manifest(
        _path(data),
        data.columns,
        group_pattern=data.group_pattern,
        skip_corrupt=data.skip_corrupt,
        labelled=labelled,
    )


def _arrays(data: Data, labelled: bool) -> arrays.Arrays:
    return arrays.Arrays(_path(data), data.columns)


def _hf(data: Data, labelled: bool) -> hf.HfSet:
    if data.name.startswith(hf.PREFIX):
        where = data.name
        found = hf.load_named(where, data.data_dir, download=data.download)
    else:
        where = str(_path(data))
        found = hf.load_saved(_path(data))
    return hf.HfSet(found, where, data.columns, skip_corrupt=data.skip_corrupt)


def _pack(data: Data, labelled: bool) -> packed.Pack:
    return packed.Pack(_path(data), skip_corrupt=data.skip_corrupt, labelled=labelled)


def _tars(data: Data, labelled: bool) -> tars.Tars:
    return tars.Tars(
        _path(data),
        data.columns,
        names=[data.train, data.test, data.val_split or ""],
        group_pattern=data.group_pattern,
        skip_corrupt=data.skip_corrupt,
        labelled=labelled,
    )


def _tfds_split(data: Data, split: str, field: str) -> Source:
    from tl.data import tfds_prepare, tfds_source  # TFDS takes most of a second to import

    builder = tfds_prepare.open_builder(data.name, data.data_dir, download=data.download)
    source = tfds_source.TfdsSource(builder, split, skip_corrupt=data.skip_corrupt, field=field)
    if twice := len(source) - len(np.unique(source.places())):
        raise UserError(
            f"the parts that {split!r} joins share {twice:,} images; give parts that do not "
            "overlap, such as 'train[:50%]+train[80%:]'",
            field=field,
        )
    return source


# `data.name` to how such data are opened. Other names are of TFDS.
KINDS: Mapping[str, Kind] = {
    "digits": Kind(lambda data, split, field: digits.Digits(split, field=field)),
    "folder": Kind(_folder_split, _folder_parts, ("group_pattern",)),
    "manifest": _with_named_splits(_manifest, ("group_column", "group_pattern")),
    "arrays": _with_named_splits(_arrays, ("group_column",)),
    "hf": _with_named_splits(_hf, ("group_column",)),
    "pack": _with_named_splits(_pack, ()),
    "webdataset": _with_named_splits(_tars, ("group_pattern",)),
}
_TFDS = Kind(_tfds_split)


def _path(data: Data) -> Path:
    if not data.data_dir:
        raise UserError("expected a path", field="data.data_dir")
    return paths.as_path(data.data_dir)


def _here(data: Data) -> Data:
    """Returns the data with a path of this machine: that of a copy, where they lie elsewhere.

    Raises:
      UserError: it is no address of an object store, or nothing is there.
    """
    if "://" not in data.data_dir:
        return data
    if data.name.startswith(hf.PREFIX):
        paths.as_local(data.data_dir, "the folder of downloads")
    path = paths.as_path(data.data_dir)
    if data.name not in KINDS:  # of TFDS: the folder may hold other sets
        copy = fetch.local_copy(path / re.split("[/:]", data.name)[0]).parent
    elif tables.is_table(path):  # which names files beside it
        copy = fetch.local_copy(path.parent) / path.name
    else:
        copy = fetch.local_copy(path)
    return dataclasses.replace(data, data_dir=str(copy))


def _kind(data: Data) -> Kind:
    """Returns the kind of some data: by their name or, of a 'folder', by what is at the path.

    Raises:
      UserError: there is no such kind of file, or such data cannot have the groups asked for.
    """
    kind = _found_kind(data)
    for field in ("group_column", "group_pattern"):
        if getattr(data, field) and field not in kind.groups:
            known = " or ".join(f"`data.{name}`" for name in kind.groups)
            raise UserError(
                f"such data have no groups by it; {f'give {known}' if known else 'leave it out'}",
                field=f"data.{field}",
            )
    return kind


def _found_kind(data: Data) -> Kind:
    if data.name == "folder" and data.data_dir:
        path = _path(data)
        if path.is_dir():
            if packed.is_pack(path):
                return KINDS["pack"]
            if hf.is_saved(path):
                return KINDS["hf"]
            if arrays.is_folder_of_arrays(path):
                return KINDS["arrays"]
            if tar_files.is_folder_of_tars(path):
                return KINDS["webdataset"]
        elif tables.is_table(path):
            return KINDS["manifest"]
        elif path.suffix.lower() in arrays.ENDINGS:
            return KINDS["arrays"]
        elif path.suffix.lower() == tar_files.ENDING:
            return KINDS["webdataset"]
        elif path.exists():
            raise UserError(
                f"{path} is no folder; expected one, or a file that ends in "
                f"{', '.join((*tables.ENDINGS, *arrays.ENDINGS, tar_files.ENDING))}",
                field="data.data_dir",
            )
    if data.name.startswith(hf.PREFIX):
        return KINDS["hf"]
    return KINDS.get(data.name, _TFDS)


def open_source(data: Data, split: str, *, field: str = "") -> Source:
    """Returns one split of a data set.

    Args:
      data: the data set; its own splits do not matter.
      split: a name of those that the data set has: a TFDS split string; a directory of the folder,
        '' for the folder itself; a split of the table or of the arrays, '' for all where
        there are none; or 'train', 'test' or 'all' of digits.
      field: the config's field that names the split, for errors.

    Raises:
      UserError: the data or the split cannot be had, or the split holds an image twice.
    """
    data = _here(data)
    return _kind(data).split(data, split, field)


def open_sources(data: Data, *, labelled: bool = True) -> dict[str, Source]:
    """Returns the sources of a run under 'train', 'test' and, where it is a split, 'val'.

    Where 'val' is missing it is to be carved from train (`tl.data.splits`). Folds of train leave
    a val split unused.

    Args:
      data: the data set and its splits.
      labelled: whether classes are needed. Without, a folder or a table may have one or none, and
        'test' may be missing.

    Raises:
      UserError: the data cannot be had, or the splits share images or groups, or a split has a
        class that train lacks.
    """
    data = _here(data)
    kind = _kind(data)
    if kind.parts:
        opened = dict(kind.parts(data, labelled))
    else:
        names = {"train": data.train, "test": data.test}
        if data.val_split is not None:
            names["val"] = data.val_split
        opened = {
            part: open_source(data, name, field=f"data.{part}") for part, name in names.items()
        }
    if data.folds and "val" in opened:
        _log.info(
            "%s: the split %r is not used, for `data.val` is %s",
            opened["train"].name, opened.pop("val").split, data.val,
        )  # fmt: skip
    _check_disjoint(opened)
    grouping.check_apart(opened)
    content.check_apart(opened, allow=data.allow_duplicates)
    return opened


def identity(source: Source) -> dict[str, str]:
    """Returns, as JSON, what tells a split's images from others, wherever they lie.

    A folder's own name is no part of it: its version already tells its content.
    """
    name = getattr(source, "identity_name", source.name)
    return {"name": name, "version": source.version, "split": source.split}


def warnings(opened: Mapping[str, Source]) -> list[str]:
    """Returns what to know of the images before trusting a number that rests on them."""
    return [text for source in opened.values() for text in getattr(source, "warnings", ())]


def _check_disjoint(opened: Mapping[str, Source]) -> None:
    for (a, first), (b, second) in itertools.combinations(opened.items(), 2):
        if not isinstance(first, Placed) or not isinstance(second, Placed):
            continue
        fewer, more = sorted((first.places().tolist(), second.places().tolist()), key=len)
        if shared := len(set(fewer).intersection(more)):
            raise UserError(
                f"`data.{a}` ({first.split!r}) and `data.{b}` ({second.split!r}) share {shared} "
                f"images of {first.name}; give splits that do not overlap, such as 'train[:80%]' "
                "and 'train[80%:]' of a TFDS set"
            )
