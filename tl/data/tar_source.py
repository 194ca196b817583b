"""The source of images in tars of webdataset's form, each read from its place in the tar."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Int64, Shaped

from tl.data import content, encoded, grouping, tar_index, tar_scan

_PLACE_BITS = 44  # of an offset in a tar, up to 16 TiB
_ROWS_AT_ONCE = 4096  # whose names are hashed together


class Tar(NamedTuple):
    """A tar and its marks (`tl.data.content.marks_of`) when it was listed."""

    file: Path
    marks: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Rows:
    """The images of a split, N of them.

    Attributes:
      ids: their keys.
      tars: int32 [N], numbers of the tars that they lie in.
      offsets, sizes: int64 [N] in bytes; the size is -1 where a label has no image.
      labels: int32 [N], -1 for none.
      digests: N hashes of their content; '' without an image.
      group_names: str [N], None without groups.
    """

    ids: list[str]
    tars: Int32[np.ndarray, " n"]
    offsets: Int64[np.ndarray, " n"]
    sizes: Int64[np.ndarray, " n"]
    labels: Int32[np.ndarray, " n"]
    digests: list[str]
    group_names: grouping.Names | None

    def taken(self, rows: Int[np.ndarray, " m"]) -> "Rows":
        """Returns some of the rows."""
        numbers = rows.tolist()
        return Rows(
            [self.ids[row] for row in numbers],
            self.tars[rows],
            self.offsets[rows],
            self.sizes[rows],
            self.labels[rows],
            [self.digests[row] for row in numbers],
            None if self.group_names is None else self.group_names[rows],
        )


class TarSource(encoded.EncodedSource):
    """One split of images in tars; ids are webdataset's keys.

    Its version depends on the keys, labels and contents of the images in their order, not on which
    tar they lie in. No tar stays open, so processes that are forked share none.
    """

    # Stands for the folder's name in what must be the same for features and runs to go on.
    identity_name = "webdataset"

    def __init__(
        self,
        tars: Mapping[int, Tar],
        rows: Rows,
        *,
        name: str,
        split: str,
        classes: Sequence[str],
        skip_corrupt: bool,
    ):
        """Takes indexed images.

        Args:
          tars: number of each tar to where it is.
          rows: at least one.
          name: of the data set.
          split: as the user named it.
          classes: names, in the order of the labels.
          skip_corrupt: leave out images that cannot be decoded.
        """
        self._tars, self._rows = tars, rows
        version = hashlib.sha256()
        lines = zip(rows.ids, rows.labels.tolist(), rows.sizes.tolist(), rows.digests)
        while few := list(itertools.islice(lines, _ROWS_AT_ONCE)):
            version.update("".join(f"{i}\0{lb}\0{s}\0{d}\n" for i, lb, s, d in few).encode())
        super().__init__(
            name=name,
            version=version.hexdigest()[:16],
            split=split,
            classes=classes,
            image_shape=None,
            id_bytes=max(len(id_.encode()) for id_ in rows.ids),
            skip_corrupt=skip_corrupt,
        )

    def __len__(self) -> int:
        return len(self._rows.ids)

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the labels, int32 [N]; -1 for none. Corrupt images are not known here."""
        return self._rows.labels.copy()

    def ids(self) -> list[str]:
        """Returns the key of each row."""
        return list(self._rows.ids)

    def places(self) -> Shaped[np.ndarray, " n"]:
        """Returns a number for each row, of its tar and its place there."""
        return (self._rows.tars.astype(np.int64) << _PLACE_BITS) | self._rows.offsets

    def contents(self) -> content.Hashes:
        """Returns a text for each row, equal where images are byte for byte the same."""
        texts = [d or f"absent {id_}" for d, id_ in zip(self._rows.digests, self._rows.ids)]
        return np.array(texts, object)

    def groups(self) -> Int64[np.ndarray, " n"] | None:
        """Returns a number for each row, equal for equal images and within named groups."""
        numbers = grouping.numbers(self._rows.group_names)
        return grouping.joined(numbers, content.copies(self.contents()))

    def group_names(self) -> grouping.Names | None:
        """Returns the name of each row's group; None without groups."""
        return self._rows.group_names

    def subset(self, rows: Int[np.ndarray, " rows"], split: str) -> "TarSource":
        """Returns a source of some of the rows."""
        return TarSource(
            self._tars,
            self._rows.taken(rows),
            name=self.name,
            split=split,
            classes=self.classes,
            skip_corrupt=self.skip_corrupt,
        )

    def _read(self, rows: Sequence[int]) -> Iterator[tuple[bytes | OSError, int, str]]:
        held = self._rows
        for tar, of_tar in itertools.groupby(rows, lambda row: int(held.tars[row])):
            with tar_index.opened(*self._tars[tar]) as file:
                for row in of_tar:
                    data: bytes | OSError = OSError(0, "its tar has a label, but no image")
                    if held.sizes[row] >= 0:
                        try:
                            data = tar_scan.body(file, int(held.offsets[row]), int(held.sizes[row]))
                        except OSError as error:
                            data = error
                    yield data, int(held.labels[row]), held.ids[row]
