"""Data sets of tars in webdataset's form: their splits, labels and classes."""

import concurrent.futures
import itertools
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32
from tqdm import tqdm

from tl.data import content, division, grouping, tar_files, tar_index, tar_scan, walk
from tl.data.folder import as_id
from tl.data.tables import Columns
from tl.data.tar_scan import Asked, Index
from tl.data.tar_source import Rows, Tar, TarSource
from tl.errors import UserError
from tl.files import progress_options

_log = logging.getLogger(__name__)


class Tars:
    """A folder of tars, or one tar. See `tl.data.division.DataSet`.

    Attributes:
      where: its path.
      name: its name, without the ending.
    """

    def __init__(
        self,
        path: Path,
        columns: Columns,
        *,
        names: Collection[str] = (),
        group_pattern: str = "",
        skip_corrupt: bool = False,
        labelled: bool = True,
    ):
        """Finds the tars, but reads none.

        Args:
          path: the folder, or a tar.
          columns: `image` and `label` are those of `tl.data.tar_scan.Asked`.
          names: of splits that names of tars may begin with, beside the usual ones.
          group_pattern: names the groups of images by their keys, see `grouping.by_pattern`.
          skip_corrupt: leave out images that cannot be decoded, and labels without an image.
          labelled: whether labels are needed. Without, one class or none is enough.

        Raises:
          UserError: there are no tars, or some that cannot be read; no split can be told of some.
        """
        self.where = str(path)
        self.name = as_id(path.resolve().stem if path.is_file() else path.resolve().name)
        self._root = path.parent if path.is_file() else path
        self._asked = Asked(columns.image, columns.label)
        self._group_pattern, self._skip_corrupt = group_pattern, skip_corrupt
        self._labelled = labelled
        self._files = {"": [path]} if path.is_file() else tar_files.found_in(path, names)
        every = sorted(file for files in self._files.values() for file in files)
        self._number = {file: number for number, file in enumerate(every)}

    def splits(self) -> Mapping[str, None]:
        """Returns the names of the splits; '' alone where the tars are not divided."""
        return dict.fromkeys(self._files)

    def open(self, named: Mapping[str, str]) -> dict[str, TarSource]:
        """Returns the sources of some splits. All their images are read once, to be hashed.

        Args:
          named: 'train', 'val' or 'test' to the split that it is. Train decides the classes.

        Raises:
          UserError: tars, samples, labels or groups that cannot be used.
        """
        parts = {part: self._indexes(split) for part, split in named.items()}
        classes, labels = self._labels(parts)
        opened = {}
        for part, indexes in parts.items():
            rows = self._rows(_hashed(indexes, self._asked), labels[part])
            numbers = [self._number[index.file] for index in indexes]
            opened[part] = source = TarSource(
                dict(zip(numbers, (Tar(index.file, index.marks) for index in indexes))),
                rows,
                name=self.name,
                split=named[part],
                classes=classes,
                skip_corrupt=self._skip_corrupt,
            )
            self._describe(source, indexes)
        return opened

    def _indexes(self, split: str) -> list[Index]:
        """Returns the indexes of a split's tars, without digests where these are not known.

        Raises:
          UserError: a tar cannot be used, no image is in them, or a label has none.
        """
        files = self._files[split]
        options = {"unit": " tars", "delay": 1.0} | progress_options()
        indexes = [
            tar_index.read(file, self._asked) for file in tqdm(files, desc="tars listed", **options)
        ]
        absent = [
            f"{index.file}: {index.keys[row]}"
            for index in indexes
            for row in np.flatnonzero(index.sizes < 0).tolist()
        ]
        count = sum(len(index.keys) for index in indexes)
        if len(absent) == count:
            raise UserError(
                f"no image is in the {len(files)} tars of {split or self.where}; expected members "
                f"KEY.jpg, KEY.png or the like, whose key ends at the first dot of the name"
                f"{tar_scan.left_out(indexes)}. `data.image_column` gives another ending"
            )
        if absent:
            text = f"{len(absent):,} labels have no image, such as {absent[0]}"
            if not self._skip_corrupt:
                links = _special(indexes)
                raise UserError(
                    f"{text}; write these tars anew, or leave such samples out with "
                    f"`data.skip_corrupt=True`{links and f'; {links}'}"
                )
            _log.warning("%s: %s; left out", self.where, text)
        return indexes

    def _labels(
        self, parts: Mapping[str, Sequence[Index]]
    ) -> tuple[list[str], dict[str, Int32[np.ndarray, " n"]]]:
        """Returns the names of the classes and the labels int32 [N] of each part.

        Raises:
          UserError: labels that cannot be used, or none where they are needed.
        """
        first: dict[str, str] = {}
        for index in (index for of_part in parts.values() for index in of_part if index.kind):
            first.setdefault(index.kind, str(index.file))
        if len(first) > 1:
            raise tar_scan.mixed(first)
        texts = {
            part: [label for index in of_part for label in index.labels]
            for part, of_part in parts.items()
        }
        decides = "train" if "train" in texts else next(iter(texts))
        if not any(texts[decides]):
            if self._labelled:
                raise UserError(
                    f"no image of {decides} of {self.where} has a label; expected KEY.cls with an "
                    f"integer, or KEY.json with one of the fields {', '.join(tar_scan.FIELDS)}"
                    f"{tar_scan.left_out(parts[decides])}. `data.label_column` names another field"
                )
            return [], {part: np.zeros(len(of), np.int32) for part, of in texts.items()}
        labelled = {part: [row for row, t in enumerate(of) if t] for part, of in texts.items()}

        def place(part: str, row: int) -> str:
            keys = itertools.chain.from_iterable(index.keys for index in parts[part])
            return f"{self.where}: {next(itertools.islice(keys, labelled[part][row], None))}"

        classes = division.class_names(
            {part: [texts[part][row] for row in rows] for part, rows in labelled.items()},
            place,
            least=2 if self._labelled else 0,
        )
        numbers = {part: division.label_numbers(of, classes) for part, of in texts.items()}
        return tar_files.class_names(self._root, classes), numbers

    def _rows(self, indexes: Sequence[Index], labels: Int32[np.ndarray, " n"]) -> Rows:
        """Returns the rows of a split.

        Raises:
          UserError: a key in which the pattern of groups finds nothing.
        """
        ids = [key for index in indexes for key in index.keys]
        if len(set(ids)) < len(ids):  # shards that each count from 0
            ids = [f"{as_id(index.file.stem)}/{key}" for index in indexes for key in index.keys]
        names = None
        if self._group_pattern:
            names = np.array(grouping.by_pattern(ids, self._group_pattern))
        return Rows(
            ids,
            np.repeat(
                np.array([self._number[index.file] for index in indexes], np.int32),
                [len(index.keys) for index in indexes],
            ),
            np.concatenate([index.offsets for index in indexes]),
            np.concatenate([index.sizes for index in indexes]),
            labels,
            [digest for index in indexes for digest in index.digests or ()],
            names,
        )

    def _describe(self, source: TarSource, indexes: Sequence[Index]) -> None:
        """Logs what a split holds, and what of it is left out or looks wrong."""
        endings = sum((index.left_out.endings for index in indexes), Counter[str]())
        hidden = sum(index.left_out.hidden for index in indexes)
        left_out = walk.LeftOut(endings, hidden=hidden)
        _log.info(
            "%s: %d images of %d classes in %d tars%s",
            self.where, len(source), len(source.classes), len(indexes),
            f"; left out: {left_out}" if str(left_out) else "",
        )  # fmt: skip
        if warning := left_out.warning():
            source.warn(warning)
        if special := _special(indexes):
            source.warn(special)
        content.warn_of_several_classes(source)


def _special(indexes: Sequence[Index]) -> str:
    """Returns what to say of members without a plain body, '' where there are none."""
    count = sum(index.left_out.special for index in indexes)
    if not count:
        return ""
    return (
        f"left out: {count:,} members that are links, devices or sparse files; "
        "`tar --hard-dereference -h` writes files in the place of links"
    )


def _hashed(indexes: Sequence[Index], asked: Asked) -> list[Index]:
    """Returns indexes with digests; tars are read side by side."""
    options = {"unit": " tars", "delay": 1.0} | progress_options()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        read = threads.map(lambda index: tar_index.hashed(index, asked), indexes)
        return list(tqdm(read, total=len(indexes), desc="tars hashed", **options))
