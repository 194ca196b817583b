"""Lists the images that a command line names: files, folders, globs, tables and standard input."""

import csv
import glob
import itertools
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tl.data import kinds, walk
from tl.errors import UserError, nearest

_log = logging.getLogger(__name__)

TABLES = (".csv", ".parquet")
PATH_COLUMNS = ("path", "file", "filename", "image")  # the first of these that a table has


class Listed(NamedTuple):
    """An image: its path, and its label's name, '' where none is wanted."""

    path: str
    label: str = ""


def listed(
    names: Iterable[str],
    *,
    path_column: str = "",
    label_column: str = "",
    labelled: bool = False,
    stdin: Iterable[str] | None = None,
) -> Iterator[Listed]:
    """Yields images in order, none of them opened: the names' order and, in a folder, the paths'.

    Args:
      names: image files; folders, with those in them and behind links; globs, where `**` goes
        through folders; CSV and Parquet files with a column of paths, relative to the file's
        folder; or '-' for one path a line of standard input.
      path_column: of the tables; default the first of `PATH_COLUMNS` that a table has.
      label_column: of the tables; needed with `labelled`.
      labelled: whether every image needs a label: the name of its folder below the folder given,
        or the table's.
      stdin: default the process's.

    Raises:
      UserError: no such file, folder or column; a folder without images; an image without a label.
    """
    for name in names:
        if name == "-":
            found: Iterator[Listed] = (
                Listed(line) for line in map(_line, stdin or sys.stdin) if line
            )
        elif os.path.isdir(name):
            found = _folder(name)
        elif Path(name).suffix.lower() in TABLES and os.path.isfile(name):
            found = _table(Path(name), path_column, label_column if labelled else "")
        elif os.path.lexists(name):
            found = iter([Listed(name)])
        elif glob.has_magic(name):
            found = (Listed(path) for path in sorted(_matches(name)))
        else:
            raise UserError(f"there is no file or folder {name}")
        first = next(found, None)
        if first is None:
            raise UserError(
                f"no image is in {name}; expected files with the endings "
                f"{', '.join(sorted(kinds.endings()))}, or a table with a column of paths"
            )
        for item in itertools.chain([first], found):
            if labelled and not item.label:
                raise UserError(
                    f"{item.path} has no label; expected it in a folder of its class, below a "
                    "folder given, or a table with a column of labels"
                )
            yield item if labelled else Listed(item.path)


def _line(line: str) -> str:
    return line.rstrip("\r\n")


def _folder(root: str) -> Iterator[Listed]:
    """Yields the images below a folder, in the order of `walk.images_below`."""
    left_out = walk.LeftOut()
    for path in walk.images_below(root, left_out):
        first, _, rest = os.path.relpath(path, root).partition(os.sep)
        yield Listed(path, walk.nfc(first) if rest else "")
    if text := str(left_out):
        _log.info("%s: left out %s", root, text)
    if warning := left_out.warning():
        _log.warning("%s: %s", root, warning)


def _matches(pattern: str) -> Iterator[str]:
    for path in glob.iglob(pattern, recursive=True):
        if os.path.isfile(path) and kinds.is_image(path):
            yield path


def _table(file: Path, path_column: str, label_column: str) -> Iterator[Listed]:
    rows = _csv_rows(file) if file.suffix.lower() == ".csv" else _parquet_rows(file)
    first = next(rows, None)
    if first is None:
        return
    path = path_column or next((name for name in PATH_COLUMNS if name in first), "path")
    for column in filter(None, (path, label_column)):
        if column not in first:
            raise UserError(f"{file} has no column {column!r}{nearest(column, map(str, first))}")
    for row in itertools.chain([first], rows):
        if not row[path]:
            raise UserError(f"{file} has a row without a {path!r}")
        label = row[label_column] if label_column else None
        yield Listed(os.path.join(file.parent, str(row[path])), "" if label is None else str(label))


def _csv_rows(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            yield from csv.DictReader(lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as CSV in UTF-8: {error}") from error


def _parquet_rows(file: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow  # takes a quarter of a second to import
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{file} cannot be read as Parquet: {error}") from error
