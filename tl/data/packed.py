"""Reads packs: data sets in a few large files, from which images are read in any order."""

import dataclasses
import errno
import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32, Int64

from tl.data import encoded, grouping
from tl.errors import UserError
from tl.files import read_json

DESCRIPTION = "pack.json"  # written last
FORMAT, SCHEMA = "tl pack", 1
# Columns of a part's index. The last two are there where a source has groups.
ID, LABEL, SIZE, DIGEST, GROUP, GROUP_NAME = (
    "id", "label", "bytes", "digest", "group", "group_name",
)  # fmt: skip
_UNREADABLE = OSError(errno.EIO, "it was empty, or could not be read, when it was packed")

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Shard:
    """One ArrayRecord file: each record is an encoded image, empty if it could not be read.

    Attributes:
      file: its name in the pack's folder.
      images: how many there are.
      bytes: size of the file.
    """

    file: str
    images: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a pack, as DESCRIPTION has it.

    Attributes:
      name, version, split, classes, image_shape, id_bytes, warnings: of the source that was packed.
      identity_name: stands for the name in fingerprints, see `tl.data.sources.identity`.
      index: name of the Parquet file with a row for each image.
      index_sha256: of that file.
      shards: in the order of the rows.
    """

    name: str
    version: str
    split: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    id_bytes: int
    warnings: tuple[str, ...]
    identity_name: str
    index: str
    index_sha256: str
    shards: tuple[Shard, ...]

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(shard.images for shard in self.shards)

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> "Part":
        """Returns the part whose `dataclasses.asdict` JSON has given back.

        Raises:
          KeyError, TypeError: the fields are others.
        """
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        values["shards"] = tuple(Shard(**shard) for shard in fields["shards"])
        return cls(**values)


@runtime_checkable
class _Records(Protocol):
    def __getitems__(self, rows: list[int]) -> Sequence[bytes]: ...


@dataclasses.dataclass(frozen=True)
class _Instruction:
    """What a shard holds, as ArrayRecord asks, which else opens every file to count its records."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


@dataclasses.dataclass(frozen=True)
class _Index:
    """The columns of a part's index, N rows each.

    Attributes:
      ids: a column of Arrow, a third of the size of a list of str.
      labels: int32 [N].
      groups: int64 [N], None without groups.
      group_names: str [N], None where the user named no groups.
    """

    ids: Any
    labels: Int32[np.ndarray, " n"]
    groups: Int64[np.ndarray, " n"] | None
    group_names: grouping.Names | None


class PackSource(encoded.EncodedSource):
    """One part of a pack with random access; it stands for the source that was packed.

    It has that source's name, version, split, ids, labels and groups, so that features and runs of
    the one are those of the other.
    """

    def __init__(
        self,
        records: _Records,
        index: _Index,
        about: Part,
        part: str,
        *,
        first: int,
        skip_corrupt: bool,
        rows: Int[np.ndarray, " n"] | None = None,
        split: str | None = None,
    ):
        """Takes rows of a part.

        Args:
          records: the encoded images of the whole part.
          index: of the whole part.
          about: the part.
          part: its name, 'train', 'val' or 'test'.
          first: number of its first image in the pack.
          skip_corrupt: leave out images that cannot be decoded.
          rows: of the part; None for all.
          split: name of these rows; None for the part's own.
        """
        self._records, self._index, self._about, self._part = records, index, about, part
        self._first = first
        self._rows = np.arange(about.images) if rows is None else rows
        self.identity_name = about.identity_name
        version = about.version
        if rows is not None:
            chosen = rows.astype("<i8").tobytes()
            version = hashlib.sha256(version.encode() + chosen).hexdigest()[:16]
        super().__init__(
            name=about.name,
            version=version,
            split=about.split if split is None else split,
            classes=about.classes,
            image_shape=about.image_shape,
            id_bytes=about.id_bytes,
            skip_corrupt=skip_corrupt,
        )

    def __len__(self) -> int:
        return len(self._rows)

    def warn(self, text: str) -> None:
        """Logs a warning and keeps it, unless it was kept when the images were packed."""
        if text not in self.warnings:
            super().warn(text)

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the labels, int32 [N]; below 0 for none."""
        return self._index.labels[self._rows]

    def places(self) -> Int64[np.ndarray, " n"]:
        """Returns the number of each row in the pack, which no other image of it has."""
        return self._first + self._rows

    def groups(self) -> Int64[np.ndarray, " n"] | None:
        """Returns a number for each row, as the source that was packed gave it; None for none."""
        found = self._index.groups
        return None if found is None else found[self._rows]

    def group_names(self) -> grouping.Names | None:
        """Returns the name of each row's group; None where the user named none."""
        found = self._index.group_names
        return None if found is None else found[self._rows]

    def subset(self, rows: Int[np.ndarray, " rows"], split: str) -> "PackSource":
        """Returns a source of some of the rows."""
        return PackSource(
            self._records,
            self._index,
            self._about,
            self._part,
            first=self._first,
            skip_corrupt=self.skip_corrupt,
            rows=self._rows[rows],
            split=split,
        )

    def _read(self, rows: Sequence[int]) -> Iterator[tuple[bytes | OSError, int, str]]:
        numbers = self._rows[np.asarray(rows, np.int64)].tolist()
        try:
            found = self._records.__getitems__(numbers)
        except (OSError, RuntimeError, ValueError, IndexError) as error:  # what its C++ sets off
            raise UserError(
                f"{self.name}: the pack's images {numbers[0]} to {numbers[-1]} of {self._part} "
                f"cannot be read ({error}); copy the pack anew, or pack the data again"
            ) from error
        for number, data in zip(numbers, found, strict=True):
            label = int(self._index.labels[number])
            yield data or _UNREADABLE, label, self._index.ids[number].as_py()


class Pack:
    """A data set that `tl.data.pack.write` has written. See `tl.data.division.DataSet`.

    Attributes:
      where: its folder.
    """

    def __init__(self, folder: Path, *, skip_corrupt: bool = False, labelled: bool = True):
        """Reads what is there, but no index and no image.

        Args:
          folder: the pack's.
          skip_corrupt: leave out images that cannot be decoded.
          labelled: whether labels are needed. Without, one class or none is enough.

        Raises:
          UserError: it is no pack, a later version's, or not whole.
        """
        self.where, self._folder = str(folder), folder
        self._skip_corrupt, self._labelled = skip_corrupt, labelled
        found = read_json(folder / DESCRIPTION)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise UserError(f"{folder} is no pack, for {DESCRIPTION} is not there or damaged")
        if found.get("schema") != SCHEMA:
            raise UserError(
                f"{folder} is a pack of schema {found.get('schema')}, expected {SCHEMA}; read it "
                "with the version of tl that wrote it, or pack the data again"
            )
        try:
            self._parts = {name: Part.of_json(fields) for name, fields in found["parts"].items()}
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(f"{folder / DESCRIPTION} is damaged: {error!r}") from error
        for part in self._parts.values():
            for shard in part.shards:
                _check_size(folder / shard.file, shard.bytes)

    def splits(self) -> Mapping[str, int]:
        """Returns the names of the parts with their numbers of images."""
        return {name: part.images for name, part in self._parts.items()}

    def open(self, named: Mapping[str, str]) -> dict[str, PackSource]:
        """Returns the sources of some parts.

        Args:
          named: 'train', 'val' or 'test' to the part that it is.

        Raises:
          UserError: an index is not there or damaged; there are too few classes.
        """
        counts = self.splits()
        firsts = dict(zip(counts, itertools.accumulate(counts.values(), initial=0)))
        opened = {}
        for role, name in named.items():
            about = self._parts[name]
            if self._labelled and len(about.classes) < 2:
                raise UserError(
                    f"{self.where} must have two classes or more, but was packed with "
                    f"{len(about.classes)}; the commands extract and predict take it as it is"
                )
            opened[role] = source = PackSource(
                _records(self._folder, about.shards),
                _index(self._folder / about.index, about),
                about,
                name,
                first=firsts[name],
                skip_corrupt=self._skip_corrupt,
            )
            _log.info("%s: %d images of %d classes", self.where, len(source), len(about.classes))
            for text in about.warnings:
                source.warn(text)
        return opened


def is_pack(folder: Path) -> bool:
    """Returns whether a folder is a pack; other programs write files of that name too."""
    return (folder / DESCRIPTION).is_file() and any(folder.glob("*.parquet"))


def _check_size(file: Path, expected: int) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise UserError(f"{file} of a pack cannot be read: {error.strerror}") from error
    if size != expected:
        raise UserError(
            f"{file} of a pack is not whole: expected {expected:,} bytes, got {size:,}; copy the "
            "pack anew, or pack the data again"
        )


def _records(folder: Path, shards: Sequence[Shard]) -> _Records:
    # Half a second to import, for it brings Abseil's.
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return ArrayRecordDataSource(
        [
            _Instruction(str(folder / shard.file), 0, shard.images, shard.images)
            for shard in shards
            if shard.images
        ]
    )


def _index(file: Path, about: Part) -> _Index:
    """Returns a part's index.

    Raises:
      UserError: it is not there, or not as it was written.
    """
    import pyarrow  # takes a quarter of a second to import
    from pyarrow import parquet

    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} of a pack cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != about.index_sha256:
        raise UserError(f"{file} of a pack is damaged; copy the pack anew, or pack the data again")
    names = {GROUP, GROUP_NAME, ID, LABEL}
    schema = parquet.read_schema(pyarrow.BufferReader(data))
    table = parquet.read_table(
        pyarrow.BufferReader(data), columns=[name for name in schema.names if name in names]
    )

    def column(name: str) -> np.ndarray | None:
        return table[name].to_numpy() if name in table.column_names else None

    labels, group_names = column(LABEL), column(GROUP_NAME)
    assert labels is not None
    return _Index(
        table[ID].combine_chunks(),
        labels,
        column(GROUP),
        None if group_names is None else group_names.astype(str),
    )
