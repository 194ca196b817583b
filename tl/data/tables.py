"""Reads rows of CSV, TSV, Parquet and JSON lines, and finds columns by their usual names."""

import csv
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tl.errors import UserError, nearest

PATHS = (
    "path", "file", "filename", "image", "file_name", "filepath", "file_path", "image_path",
    "img_path", "img",
)  # fmt: skip
LABELS = ("label", "class", "target", "category", "class_name", "label_name", "labels", "y")
SPLITS = ("split", "subset", "partition", "set")
GROUPS = (
    "group", "group_id", "patient", "patient_id", "subject", "subject_id", "video", "video_id",
    "burst", "burst_id", "sequence", "sequence_id",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of columns, '' for one that is found by its usual names.

    Attributes:
      image: paths, or images.
      label: of each image.
      split: names of splits.
      group: names of groups, none of which is divided between splits.
    """

    image: str = ""
    label: str = ""
    split: str = ""
    group: str = ""


class Row(NamedTuple):
    """One row of a table.

    Attributes:
      place: for messages: 'line 7' of a text file, 'row 6' of Parquet; both count from 1.
      values: column to value; None where a line ends before the column.
    """

    place: str
    values: Mapping[str, Any]


def is_table(path: str | Path) -> bool:
    """Returns whether a file is a table, by its ending."""
    return Path(path).suffix.lower() in ENDINGS


def rows(file: Path) -> Iterator[Row]:
    """Yields the rows of a table in order.

    Args:
      file: with an ending of `ENDINGS`.

    Raises:
      UserError: the file cannot be read.
    """
    return _READERS[file.suffix.lower()](file)


def column(
    where: str | Path,
    there: Iterable[str],
    given: str,
    usual: Sequence[str],
    field: str = "",
    *,
    needed: bool = False,
) -> str | None:
    """Returns the name of a column, or None where none was given and none has a usual name.

    Args:
      where: the table, for errors.
      there: names of its columns.
      given: the name of the column; '' for the first of `usual` that is there, in any case.
      usual: names in lower case.
      field: the config's field that names the column, for errors.
      needed: whether None is an error.

    Raises:
      UserError: the table lacks the column.
    """
    there = list(map(str, there))
    by_name = {name.strip().lower(): name for name in reversed(there)}
    found = given if given in there else next((by_name[n] for n in usual if n in by_name), None)
    if (given and found != given) or (needed and not found):
        wanted = given or usual[0]
        raise UserError(f"{where} has no column {wanted!r}{nearest(wanted, there)}", field=field)
    return found


def text(cell: object, where: str) -> str:
    """Returns a cell as text, '' for what is missing.

    Args:
      cell: of a column of labels, splits or groups.
      where: the table and the row's place, for errors.

    Raises:
      UserError: a list or something else that is not one text or number.
    """
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, Sequence | Mapping) and not isinstance(cell, str):
        raise UserError(
            f"{where}: expected one text or number, got {type(cell).__name__} {cell!s:.60}"
        )
    return str(cell).strip()


def path(cell: object, where: str) -> str:
    """Returns a cell as a path, '' for an empty one.

    Args:
      cell: of a column of paths.
      where: the table and the row's place, for errors.

    Raises:
      UserError: it is no text, or one that no file can be called: a zero byte, or half of a
        character, as JSON can hold.
    """
    if not isinstance(cell, str | None):  # such as an image in Parquet of Hugging Face
        raise UserError(
            f"{where}: expected a path, got {type(cell).__name__} {cell!s:.60}; images in a table "
            "are read where `datasets` loads it (`data.name=hf:owner/name`)"
        )
    found = (cell or "").strip()
    try:
        possible = b"\0" not in os.fsencode(found)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise UserError(f"{where}: expected a path, got {found!r}, which no file can be called")
    return os.path.expanduser(found)


def _check_columns(file: Path, names: Sequence[str]) -> None:
    """Raises UserError where two columns have one name, of which one would count."""
    if twice := [name for place, name in enumerate(names) if name and name in names[:place]]:
        raise UserError(f"{file} has two columns {twice[0]!r}; rename or remove one")


def _delimited(file: Path) -> Iterator[Row]:
    kind, delimiter = ("TSV", "\t") if file.suffix.lower() == ".tsv" else ("CSV", ",")
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, delimiter=delimiter)
            _check_columns(file, reader.fieldnames or ())
            for values in reader:
                place = f"line {reader.line_num}"
                if more := [cell for cell in values.pop(None, ()) if cell.strip()]:
                    raise UserError(
                        f"{file} {place}: expected {len(values)} cells, as in the first line, got "
                        f"more: {more[0]!r}; put a cell with {delimiter!r} in it in quotes"
                    )
                yield Row(place, values)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as {kind} in UTF-8: {error}") from error


def _json_lines(file: Path) -> Iterator[Row]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                yield Row(f"line {number}", _json_object(line, f"{file} line {number}"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as JSON lines in UTF-8: {error}") from error


def _json_object(line: str, where: str) -> dict[str, Any]:
    expected = f'{where}: expected a JSON object, such as {{"path": "a.jpg"}}, got {line[:60]!r}'

    def by_key(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(found := dict(pairs)) < len(pairs):  # the last of two values would count
            twice = next(key for place, key in enumerate(keys) if key in keys[:place])
            raise UserError(f"{where}: the key {twice!r} comes twice; rename or remove one")
        return found

    try:
        values = json.loads(line, object_pairs_hook=by_key)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{expected} ({getattr(error, 'msg', error)})") from error
    if not isinstance(values, dict):
        raise UserError(expected)
    return values


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow  # takes a quarter of a second to import
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(file) as opened:
            _check_columns(file, opened.schema_arrow.names)
            for batch in opened.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", values)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{file} cannot be read as Parquet: {error}") from error


_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _delimited,
    ".tsv": _delimited,
    ".parquet": _parquet,
    ".jsonl": _json_lines,
}
ENDINGS = tuple(_READERS)
