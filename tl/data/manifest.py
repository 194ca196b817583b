"""Tables that list images: in each row a path, a label and maybe a split and a group."""

import difflib
import functools
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tl.data import content, division, grouping, tables, walk
from tl.data.folder import FolderSource, ImageFile, as_id
from tl.data.tables import Columns
from tl.errors import UserError

_NAMED = 3  # rows in a message, at most

_log = logging.getLogger(__name__)


class _Listed(NamedTuple):
    """A row of a manifest; the path is relative to the table's folder where it lies below it."""

    place: str
    path: str
    label: str
    split: str
    group: str


class Manifest:
    """A table of images: CSV, TSV, Parquet or JSON lines. See `tl.data.division.DataSet`.

    Attributes:
      file: the table.
      where: its path.
      name: its folder and its name without the ending, such as 'birds/labels'.
    """

    def __init__(
        self,
        file: Path,
        columns: Columns,
        *,
        group_pattern: str = "",
        skip_corrupt: bool = False,
        labelled: bool = True,
    ):
        """Reads the table, but no image.

        Args:
          file: the table; its paths are relative to the folder that it lies in.
          columns: names of its columns.
          group_pattern: names the groups of images, see `tl.data.grouping.by_pattern`; '' for those
            of the column, if there is one.
          skip_corrupt: leave out images that cannot be read or decoded.
          labelled: whether labels are needed. Without, one class or none is enough.

        Raises:
          UserError: the table cannot be read, lacks a column or a value, or names a file twice; or
            groups are given both by a column and by a pattern.
        """
        self.file = file
        self.where = str(file)
        self.root = file.parent
        self.name = as_id(str(Path(file.resolve().parent.name, file.stem)))
        self.skip_corrupt = skip_corrupt
        self.labelled = labelled
        if group_pattern and columns.group:
            raise UserError(
                "expected a pattern or a column of groups, got both (`data.group_column`)",
                field="data.group_pattern",
            )
        self._rows = _rows(file, columns, labelled)
        if group_pattern:
            found = grouping.by_pattern([row.path for row in self._rows], group_pattern)
            self._rows = [row._replace(group=name) for row, name in zip(self._rows, found)]

    def splits(self) -> Mapping[str, int]:
        """Returns the names and sizes of the splits; '' alone where the table has none."""
        return Counter(row.split for row in self._rows)

    def open(self, named: Mapping[str, str]) -> dict[str, FolderSource]:
        """Returns the sources of some splits.

        Args:
          named: 'train', 'val' or 'test' to the split that it is. Train decides the classes.

        Raises:
          UserError: train has too few classes, or another split has one that train lacks; a file
            that is not there.
        """
        rows = {
            part: [row for row in self._rows if row.split == name] for part, name in named.items()
        }
        classes: list[str] = []
        if any(row.label for of_part in rows.values() for row in of_part):
            classes = division.class_names(
                {part: [row.label for row in of_part] for part, of_part in rows.items()},
                lambda part, row: f"{self.file} {rows[part][row].place}",
                least=2 if self.labelled else 0,
            )
        hashed = self._hashed([row for of_part in rows.values() for row in of_part])
        opened = {}
        for part, of_part in rows.items():
            labels = division.label_numbers([row.label for row in of_part], classes).tolist()
            files = [
                ImageFile(
                    as_id(row.path),
                    row.path,
                    label if classes else 0,
                    hashed[row.path].size,
                    hashed[row.path].digest,
                    row.group,
                )
                for row, label in zip(of_part, labels)
            ]
            source = FolderSource(
                self.root,
                files,
                classes=classes,
                split=named[part],
                skip_corrupt=self.skip_corrupt,
                name=self.name,
            )
            _log.info("%s: %d images of %d classes", self.file, len(source), len(classes))
            content.warn_of_several_classes(source)
            opened[part] = source
        return opened

    def _hashed(self, rows: Sequence[_Listed]) -> dict[str, content.Hashed]:
        """Returns what each file holds.

        Raises:
          UserError: a file that cannot be read, unless such are left out; or none can.
        """
        found = dict(
            zip((row.path for row in rows), content.hash_files(self.root, [r.path for r in rows]))
        )
        bad = [row for row in rows if found[row.path].error]
        if not bad:
            return found
        first = bad[0]
        path = self.root / first.path
        reason = f"{path} cannot be read: {found[first.path].error}"
        if not os.path.lexists(path):
            reason = f"there is no file {path}{_near(path)}"
        text = f"{self.file} {first.place}: {reason}"
        if len(bad) > 1:
            text += f"; {len(bad):,} of {len(rows):,} files are not there or cannot be read"
        if not self.skip_corrupt or len(bad) == len(rows):
            raise UserError(
                f"{text}. Paths are relative to the table's folder; leave such images out with "
                "`data.skip_corrupt=True`"
            )
        _log.warning("%s; left out", text)
        return found


def _rows(file: Path, columns: Columns, labelled: bool) -> list[_Listed]:
    """Returns the rows of a table, checked."""
    read = tables.rows(file)
    first = next(read, None)
    if first is None:
        raise UserError(f"{file} has no rows", field="data.data_dir")
    column = functools.partial(tables.column, file, first.values)
    path = column(columns.image, tables.PATHS, "data.image_column", needed=True) or ""
    label = column(columns.label, tables.LABELS, "data.label_column", needed=labelled)
    split = column(columns.split, tables.SPLITS, "data.split_column")
    group = column(columns.group, tables.GROUPS, "data.group_column")
    _log.info("%s: columns: path %s, label %s, split %s, group %s", file, path, label, split, group)
    listed: list[_Listed] = []
    seen: dict[str, _Listed] = {}
    for place, values in (first, *read):
        where = f"{file} {place}"
        texts = {
            name: tables.text(values.get(name), where) for name in (label, split, group) if name
        }
        texts[path] = tables.path(values.get(path), where)
        for name in (path, label, split):
            if name and not texts[name]:
                raise UserError(f"{where}: there is no {name!r}")
        row = _Listed(
            place,
            _below(file.parent, texts[path]),
            walk.nfc(texts[label]) if label else "",
            texts[split] if split else "",
            texts[group] if group else "",
        )
        if (other := seen.setdefault(row.path, row)) is not row:
            differ = [
                f"{what} {a!r} and {b!r}"
                for what, a, b in (
                    ("in the splits", other.split, row.split),
                    ("with the labels", other.label, row.label),
                )
                if a != b
            ]
            raise UserError(
                f"{file} {place}: {row.path} is in {other.place} too"
                + (f", {' and '.join(differ)}" if differ else "")
                + "; every image must be there once"
            )
        listed.append(row)
    return listed


def _below(root: Path, path: str) -> str:
    """Returns a path relative to a folder, or as it is where it is absolute and lies elsewhere."""
    whole = os.path.normpath(os.path.join(os.path.abspath(root), path))
    relative = os.path.relpath(whole, os.path.abspath(root))
    return whole if os.path.isabs(path) and relative.startswith(os.pardir) else relative


def _near(path: Path) -> str:
    """Returns a clause for errors: similar names in a missing file's folder, or no such folder."""
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent} either"
    close = difflib.get_close_matches(path.name, os.listdir(path.parent), n=_NAMED, cutoff=0.5)
    return f"; the nearest are {', '.join(map(repr, close))}" if close else ""
