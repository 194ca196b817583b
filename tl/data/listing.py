"""Lists the images that a command line names: files, folders, globs, tables and standard input."""

import glob
import itertools
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tl.data import kinds, tables, walk
from tl.errors import UserError
from tl.paths import as_path
from tl.weights import fetch

_log = logging.getLogger(__name__)


class Listed(NamedTuple):
    """An image.

    Attributes:
      path: of its file on this machine.
      label: its name; '' where none is wanted.
      address: of the file in an object store, of which `path` is a copy; '' for any other.
    """

    path: str
    label: str = ""
    address: str = ""

    @property
    def name(self) -> str:
        """What it is called in results."""
        return self.address or self.path


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
        through folders; tables (`tl.data.tables`) with a column of paths, relative to the file's
        folder; or '-' for one path a line of standard input.
      path_column: of the tables; default the first of `tables.PATHS` that a table has.
      label_column: of the tables; needed with `labelled`.
      labelled: whether every image needs a label: the name of its folder below the folder given,
        or the table's.
      stdin: default the process's.

    Raises:
      UserError: no such file, folder or column; a folder without images; with `labelled`, an image
        without a label or one that comes twice.
    """
    seen = set[str]()
    for name in names:
        if name == "-":
            found: Iterator[Listed] = itertools.chain.from_iterable(
                _remote(line, "", "") if "://" in line else [Listed(line)]
                for line in map(_line, stdin or sys.stdin)
                if line
            )
        elif "://" in name:
            found = _remote(name, path_column, label_column if labelled else "")
        elif os.path.isdir(name):
            found = _folder(name)
        elif tables.is_table(name) and os.path.isfile(name):
            found = _table(Path(name), path_column, label_column if labelled else "")
        elif os.path.lexists(name):
            found = iter([Listed(name)])
        elif glob.has_magic(name):
            found = (Listed(path) for path in sorted(_matches(name)))
        else:
            raise UserError(f"there is no file or folder {name}")
        first = next(found, None)
        if first is None:
            raise _no_image(name)
        for item in itertools.chain([first], found):
            if labelled and not item.label:
                raise UserError(
                    f"{item.path} has no label; expected it in a folder of its class, below a "
                    "folder given, or a table with a column of labels"
                )
            if labelled and item.path in seen:
                raise UserError(
                    f"{item.path} comes twice; with labels each image is scored once: name it once"
                )
            if labelled:
                seen.add(item.path)
            yield item if labelled else item._replace(label="")


def _line(line: str) -> str:
    return line.rstrip("\r\n")


def _no_image(name: str, left_out: str = "") -> UserError:
    return UserError(
        f"no image is in {name}{left_out and f', left out: {left_out}'}; expected files with the "
        f"endings {', '.join(sorted(kinds.endings()))}, or a table with a column of paths"
    )


def _folder(root: str) -> Iterator[Listed]:
    """Yields the images below a folder, in the order of `walk.images_below`.

    Raises:
      UserError: there are none.
    """
    left_out, found = walk.LeftOut(), False
    for path in walk.images_below(root, left_out):
        found = True
        first, _, rest = os.path.relpath(path, root).partition(os.sep)
        yield Listed(path, walk.nfc(first) if rest else "")
    text = str(left_out)
    if not found:
        raise _no_image(root, text)
    if text:
        _log.info("%s: left out %s", root, text)
    if warning := left_out.warning():
        _log.warning("%s: %s", root, warning)


def _remote(address: str, path_column: str, label_column: str) -> Iterator[Listed]:
    """Yields the images at an address of an object store, from a copy on this machine.

    Of a table the whole folder is copied, for it names files beside it.
    """
    path = as_path(address)
    is_table = tables.is_table(path)
    top = path.parent if is_table else path
    copy = fetch.local_copy(top)
    if is_table:
        found = _table(copy / path.name, path_column, label_column)
    else:
        found = _folder(str(copy)) if copy.is_dir() else iter([Listed(str(copy))])
    for item in found:
        below = os.path.relpath(item.path, copy)
        yield item._replace(address=str(top) if below == "." else f"{top}/{below}")


def _matches(pattern: str) -> Iterator[str]:
    for path in glob.iglob(pattern, recursive=True):
        if os.path.isfile(path) and kinds.is_image(path):
            yield path


def _table(file: Path, path_column: str, label_column: str) -> Iterator[Listed]:
    found = tables.rows(file)
    first = next(found, None)
    if first is None:
        raise UserError(f"{file} has no rows")
    column = tables.column(file, first.values, path_column, tables.PATHS, needed=True)
    if label_column:
        tables.column(file, first.values, label_column, ())
    for place, row in itertools.chain([first], found):
        where = f"{file} {place}"
        path = tables.path(row.get(column or ""), where)
        if not path:
            raise UserError(f"{file} has a row without a {column!r}: {place}")
        label = tables.text(row.get(label_column), where)
        yield Listed(os.path.join(file.parent, path), label)
