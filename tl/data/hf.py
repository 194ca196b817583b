"""Data sets of Hugging Face's `datasets`: saved in a folder, or by their name on the Hub."""

import contextlib
import hashlib
import importlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32, Int64, Shaped

from tl.data import content, division, encoded, grouping, kinds, tables
from tl.data.tables import Columns
from tl.errors import UserError

PREFIX = "hf:"

_log = logging.getLogger(__name__)


@runtime_checkable
class Table(Protocol):
    """The part of `datasets.Dataset` that is used here."""

    @property
    def features(self) -> Mapping[str, Any]:
        """Column to its type."""

    @property
    def cache_files(self) -> Sequence[Mapping[str, str]]:
        """The files that it lies in, under 'filename'."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any) -> Any:
        """Returns some rows, as column to list."""

    def cast_column(self, column: str, feature: Any) -> "Table":
        """Returns it with another type for a column."""

    def select_columns(self, column_names: list[str]) -> "Table":
        """Returns it with some columns alone."""


class HfSource(encoded.EncodedSource):
    """One split with random access to its encoded images."""

    # Stands for the data set's name in what must be the same for features and runs to go on.
    identity_name = "hf"

    def __init__(
        self,
        images: Table,
        column: str,
        labels: Int32[np.ndarray, " n"],
        *,
        rows: Int[np.ndarray, " n"],
        content_version: str,
        group_names: grouping.Names | None,
        name: str,
        part: str,
        split: str,
        classes: Sequence[str],
        skip_corrupt: bool,
    ):
        """Takes rows of a table.

        Args:
          images: with a column of encoded images.
          column: its name.
          labels: of the rows of this split; below 0 for none.
          rows: numbers of these rows in the table.
          content_version: changes whenever the table's files do.
          group_names: str, of the rows of this split; None without groups.
          name: of the data set.
          part: name of the split that the whole table is, for ids.
          split: as the user named it.
          classes: names, in the order of the labels.
          skip_corrupt: leave out images that cannot be decoded.
        """
        self._images, self._column = images, column
        self._labels, self._rows = labels, rows
        self._group_names, self._part = group_names, part
        self._content_version = content_version
        version = hashlib.sha256(content_version.encode())
        version.update(labels.astype("<i4").tobytes())
        version.update(rows.astype("<i8").tobytes())
        super().__init__(
            name=name,
            version=version.hexdigest()[:16],
            split=split,
            classes=classes,
            image_shape=None,
            id_bytes=len(division.row_id(part, int(rows.max(initial=0))).encode()),
            skip_corrupt=skip_corrupt,
        )

    def __len__(self) -> int:
        return len(self._rows)

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the labels, int32 [N]; -1 where the set withholds them."""
        return self._labels.copy()

    def places(self) -> Shaped[np.ndarray, " n"]:
        """Returns the id of each row, which no other image has."""
        return np.array([division.row_id(self._part, row) for row in self._rows.tolist()])

    def groups(self) -> Int64[np.ndarray, " n"] | None:
        """Returns a number for each row, equal within named groups; None without groups."""
        return grouping.numbers(self._group_names)

    def group_names(self) -> grouping.Names | None:
        """Returns the name of each row's group, its id where it has none; None without groups."""
        return self._group_names

    def subset(self, rows: Int[np.ndarray, " rows"], split: str) -> "HfSource":
        """Returns a source of some of the rows."""
        return HfSource(
            self._images,
            self._column,
            self._labels[rows],
            rows=self._rows[rows],
            content_version=self._content_version,
            group_names=None if self._group_names is None else self._group_names[rows],
            name=self.name,
            part=self._part,
            split=split,
            classes=self.classes,
            skip_corrupt=self.skip_corrupt,
        )

    def _read(self, rows: Sequence[int]) -> Iterator[tuple[bytes | OSError, int, str]]:
        numbers = self._rows[np.asarray(rows, np.int64)].tolist()
        for row, number, cell in zip(rows, numbers, self._images[numbers][self._column]):
            yield _bytes(cell), int(self._labels[row]), division.row_id(self._part, number)


def _bytes(cell: Mapping[str, Any] | None) -> bytes | OSError:
    """Returns the encoded image of a cell, which holds its bytes or the path of its file."""
    cell = cell or {}
    if cell.get("bytes"):
        return cell["bytes"]
    if not cell.get("path"):
        return b""
    try:
        return kinds.read_bytes(cell["path"])
    except OSError as error:
        return error


class HfSet:
    """The splits of a data set of `datasets`. See `tl.data.division.DataSet`.

    Attributes:
      where: its path or name.
      name: its name.
    """

    def __init__(
        self,
        found: Mapping[str, Table],
        where: str,
        columns: Columns,
        *,
        skip_corrupt: bool = False,
    ):
        """Finds the columns, but reads none.

        Args:
          found: the name of each split, '' for all of a set without splits, to its table.
          where: path or name, for messages.
          columns: names of the columns of images, labels and groups.
          skip_corrupt: leave out images that cannot be decoded.

        Raises:
          UserError: there is no column of images or labels, or there are several.
        """
        self.where = where
        self.name = where if where.startswith(PREFIX) else Path(where).resolve().name
        self._tables, self._skip_corrupt = found, skip_corrupt
        self._features = features = next(iter(found.values())).features
        self._image = _image_column(features, columns.image, where)
        self._label = _label_column(features, columns.label, where)
        self._group = tables.column(
            where, features, columns.group, tables.GROUPS, "data.group_column"
        )
        _log.info(
            "%s: columns: image %s, label %s, group %s",
            where, self._image, self._label, self._group,
        )  # fmt: skip

    def splits(self) -> Mapping[str, int]:
        """Returns the names and sizes of the splits; '' alone where the set is not divided."""
        return {name: len(table) for name, table in self._tables.items()}

    def open(self, named: Mapping[str, str]) -> dict[str, HfSource]:
        """Returns the sources of some splits, after reading their labels.

        Args:
          named: 'train', 'val' or 'test' to the split that it is. Train decides the classes, unless
            the set names them.

        Raises:
          UserError: labels that cannot be used, or splits whose columns or classes differ.
        """
        self._check_alike(named)
        classes, labels = self._labels(named)
        opened = {}
        for part, split in named.items():
            table = self._tables[split]
            images = table.cast_column(
                self._image, type(table.features[self._image])(decode=False)
            ).select_columns([self._image])
            opened[part] = HfSource(
                images,
                self._image,
                labels[part],
                rows=np.arange(len(table)),
                content_version=_version(table, images, self._image),
                group_names=self._group_names(split),
                name=self.name,
                part=split,
                split=split,
                classes=classes,
                skip_corrupt=self._skip_corrupt,
            )
            _log.info("%s: %d images of %d classes", self.where, len(table), len(classes))
        return opened

    def _check_alike(self, named: Mapping[str, str]) -> None:
        """Raises UserError where splits differ in their columns, or in the order of their classes.

        `datasets` gives each split its own types, so 0 may be a cat in one and a dog in another.
        """
        first, expected = next(iter(self._tables)), self._features
        for split in named.values():
            features = self._tables[split].features
            for column in filter(None, (self._image, self._label, self._group)):
                one, other = expected[column], features.get(column)
                names = [getattr(feature, "names", None) for feature in (one, other)]
                if _kind(one) != _kind(other) or names[0] != names[1]:
                    raise UserError(
                        f"{self.where}: the column {column!r} must be the same in all splits, but "
                        f"is {one} in {first!r} and {other} in {split!r}"
                    )

    def _labels(self, named: Mapping[str, str]) -> tuple[list[str], dict[str, np.ndarray]]:
        """Returns the classes, and the labels int32 [N] of each part."""
        feature = self._features[self._label]
        cells = {part: self._column(split, self._label) for part, split in named.items()}
        if _kind(feature) == "ClassLabel":
            return list(feature.names), {
                part: np.array([-1 if cell is None else cell for cell in of_part], np.int32)
                for part, of_part in cells.items()
            }
        texts = {part: self._texts(of_part, self._label, part) for part, of_part in cells.items()}
        for part, of_part in texts.items():
            if "" in of_part:
                raise UserError(
                    f"{self.where}: {self._label} of row {of_part.index('')} of {part} is empty"
                )
        classes = division.class_names(
            texts, lambda part, row: f"{self.where}: {self._label} of row {row} of {part}"
        )
        return classes, {
            part: division.label_numbers(of_part, classes) for part, of_part in texts.items()
        }

    def _group_names(self, split: str) -> grouping.Names | None:
        if self._group is None:
            return None
        cells = self._column(split, self._group)
        return division.group_names(self._texts(cells, self._group, split), split)

    def _texts(self, cells: Sequence[Any], column: str, part: str) -> list[str]:
        where = f"{self.where}: {column}"
        return [
            tables.text(cell, f"{where} of row {row} of {part}") for row, cell in enumerate(cells)
        ]

    def _column(self, split: str, column: str) -> list[Any]:
        return list(self._tables[split].select_columns([column])[:][column])


def _kind(feature: Any) -> str:
    """Returns the name of a column's type, so that `datasets` need not be imported to ask."""
    return type(feature).__name__


def _image_column(features: Mapping[str, Any], given: str, where: str) -> str:
    field = "data.image_column"
    images = [name for name, feature in features.items() if _kind(feature) == "Image"]
    if given:
        tables.column(where, features, given, (), field)
        if given not in images:
            raise UserError(
                f"{where}: {given!r} is no column of images, but {features[given]}", field=field
            )
        return given
    if len(images) != 1:
        several = ", ".join(map(repr, images))
        raise UserError(
            f"{where} has several columns of images, {several}; give one of them"
            if images
            else f"{where} has no column of images; its columns are {dict(features)}",
            field=field,
        )
    return images[0]


def _label_column(features: Mapping[str, Any], given: str, where: str) -> str:
    field = "data.label_column"
    usual = tables.column(where, features, given, tables.LABELS, field)
    named = [name for name, feature in features.items() if _kind(feature) == "ClassLabel"]
    found = given or (usual if usual in named else named[0] if len(named) == 1 else usual)
    if not found or (len(named) > 1 and not given and found not in named):
        several = ", ".join(map(repr, named))
        raise UserError(
            f"{where} has several columns of classes, {several}; give one of them"
            if named
            else f"{where} has no column of classes; give one of its columns: "
            f"{', '.join(features)}",
            field=field,
        )
    feature = features[found]
    dtype = str(getattr(feature, "dtype", ""))
    if _kind(feature) not in ("ClassLabel", "Value") or dtype.startswith("float"):
        raise UserError(
            f"{where}: {found!r} must be a class, a text or an integer for each image, but is "
            f"{feature}",
            field=field,
        )
    return found


def _version(table: Table, images: Table, column: str) -> str:
    """Returns a text that changes with the content of the files that a table lies in.

    Args:
      table: if it lies in no files but in memory, its images are hashed.
      images: the same table with encoded images.
      column: name of the column of images.
    """
    digests = []
    if not table.cache_files:
        for found in map(_bytes, images[:][column]):
            digests.append(str(found) if isinstance(found, OSError) else content.digest(found))
    for file in table.cache_files:
        path = Path(file["filename"])
        (hashed,) = content.hash_files(path.parent, [path.name])
        digests.append(hashed.digest or hashed.error)
    return " ".join([*digests, str(len(table))])


def is_saved(path: Path) -> bool:
    """Returns whether `save_to_disk` wrote a folder."""
    return (path / "dataset_dict.json").is_file() or all(
        (path / name).is_file() for name in ("state.json", "dataset_info.json")
    )


def load_saved(path: Path) -> dict[str, Table]:
    """Returns the splits in a folder that `save_to_disk` wrote, '' for a set without splits.

    Raises:
      UserError: `datasets` is not installed, or the folder cannot be read.
    """
    datasets = _datasets()
    with _explained(str(path), "data.data_dir"):
        return _by_split(datasets.load_from_disk(os.fspath(path)))


def load_named(name: str, cache_dir: str, *, download: bool) -> dict[str, Table]:
    """Returns the splits of a data set on the Hub.

    Args:
      name: 'hf:owner/name', or 'hf:owner/name:config'.
      cache_dir: where it is kept; '' for the default of `datasets`.
      download: whether it may be downloaded.

    Raises:
      UserError: `datasets` is not installed, the data set cannot be had, or something here has its
        name as a path.
    """
    datasets = _datasets()
    repository, _, config = name.removeprefix(PREFIX).partition(":")
    if os.path.exists(repository):
        raise UserError(
            f"{repository} is a path here, which `datasets` would read in place of the set on the "
            "Hub; start elsewhere, or give a path with `data.data_dir`",
            field="data.name",
        )
    with _explained(name, "data.name"), _network(datasets, download):
        return _by_split(
            datasets.load_dataset(
                repository, config or None, cache_dir=os.path.expanduser(cache_dir) or None
            )
        )


@contextlib.contextmanager
def _network(datasets: Any, allowed: bool) -> Iterator[None]:
    """Keeps `datasets` off the network unless that is allowed.

    Its own switch, HF_HUB_OFFLINE, is read when the packages are imported.
    """
    if allowed:
        yield
        return
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _by_split(found: Any) -> dict[str, Table]:
    splits = found if isinstance(found, Mapping) else {"": found}
    return {str(name): table.with_format(None) for name, table in splits.items()}


def _datasets() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise UserError("Hugging Face's sets need datasets: pip install datasets") from error


@contextlib.contextmanager
def _explained(where: str, field: str) -> Iterator[None]:
    """Turns any error of `datasets` into a `UserError`."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f"{where} cannot be loaded ({type(error).__name__}: {error})", field=field
        ) from error
