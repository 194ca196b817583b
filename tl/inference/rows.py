"""Rows of predictions or features, written as CSV, JSON lines, Parquet, NumPy files or a store."""

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tl.errors import UserError
from tl.features.store import NO_LABEL, FeatureStore
from tl.files import replacing

Row = Mapping[str, Any]
PREDICTIONS = (".csv", ".jsonl", ".parquet")
STORE = ""  # a folder, whose name has no suffix
FEATURES = (".npz", ".npy", ".parquet", STORE)
FORMAT_OF_STDOUT = ".csv"
_BREAKS = str.maketrans({"\n": "\\n", "\r": "\\r"})  # of lines, in a path


class _Lines:
    """A file for `csv.writer`, which puts a lone CR in quotes only where lines end in one."""

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line.removesuffix("\r\n") + "\n")


def predicted_row(
    path: str, names: Sequence[str], probabilities: Sequence[float], error: str, k: int
) -> dict[str, Any]:
    """Returns a flat row: path, class_1, probability_1, ... class_k, probability_k, error.

    >>> predicted_row("a.jpg", ["cat", "dog"], [0.75, 0.25], "", 1)
    {'path': 'a.jpg', 'class_1': 'cat', 'probability_1': 0.75, 'error': ''}

    Args:
      path: of the image.
      names, probabilities: of the classes, the most probable first; k or more.
      error: what is wrong with the image, whose classes are then empty; '' if nothing is.
      k: number of classes.
    """
    row: dict[str, Any] = {"path": path}
    for place in range(k):
        row[f"class_{place + 1}"] = None if error else names[place]
        row[f"probability_{place + 1}"] = None if error else round(float(probabilities[place]), 6)
    return row | {"error": error}


def write_lines(rows: Iterable[Row], file: TextIO, suffix: str, header: bool = True) -> None:
    """Writes rows as they come, as `.csv` or `.jsonl`.

    Args:
      rows: all with the same keys.
      file: open for text.
      suffix: `.csv` or `.jsonl`; a missing value is an empty cell or is left out.
      header: whether a CSV begins with the names of its columns.
    """
    if suffix == ".jsonl":
        for row in rows:
            kept = {name: value for name, value in row.items() if value not in (None, "")}
            file.write(json.dumps(kept, ensure_ascii=False) + "\n")
        return
    for row in rows:
        writer = csv.DictWriter(_Lines(file), row, lineterminator="\r\n")
        if header:
            writer.writeheader()
            header = False
        writer.writerow(row)


def write_part(rows: Sequence[Row], path: Path) -> None:
    """Writes rows to a file, whole or not at all, in the format of its suffix.

    Args:
      rows: one or more, with the same keys; features are arrays of one length.
      path: with a suffix of PREDICTIONS or FEATURES.
    """
    with replacing(path) as partial:
        match path.suffix:
            case ".parquet":
                _write_parquet(rows, partial)
            case ".npz" | ".npy" | "":
                columns: dict[str, Any] = {
                    name: np.array([row[name] for row in rows]) for name in rows[0]
                }
                with partial.open("wb") as file:
                    np.savez(file, **columns)
            case suffix:
                with partial.open("w", encoding="utf-8", newline="") as file:
                    write_lines(rows, file, suffix)


def join_parts(parts: Sequence[Path], path: Path, made_by: Mapping[str, Any]) -> None:
    """Joins the files of `write_part` into one, whole or not at all; one part is read at a time.

    Args:
      parts: in order, one or more, in a folder of their own; all but the last of one length.
      path: of the result; `.npz` has an array for each column, `.npy` alone that of features, and
        its paths lie beside it in a text file; without a suffix it is a feature store.
      made_by: what determines the rows, which a feature store keeps as its fingerprint.
    """
    if path.suffix == STORE:
        return _join_store(parts, path, made_by)
    joiners: dict[str, Callable[[Sequence[Path], Path], None]] = {
        ".csv": _join_lines,
        ".jsonl": _join_lines,
        ".parquet": _join_parquet,
        ".npz": _join_npz,
        ".npy": _join_npy,
    }
    if path.suffix == ".npy":  # first, since a reader looks for what it needs beside the features
        names = path.with_suffix(".paths.txt")
        with replacing(names) as partial, partial.open("w", encoding="utf-8") as file:
            for part in parts:
                with np.load(part) as columns:
                    file.writelines(f"{name.translate(_BREAKS)}\n" for name in columns["path"])
    with replacing(path) as partial:
        joiners[path.suffix](parts, partial)


def check_suffix(path: Path, known: Sequence[str]) -> None:
    """Raises UserError unless a file's suffix is one of those known."""
    if path.suffix not in known:
        endings = " or ".join(filter(None, known))
        store = ", or a name without an ending for a feature store" if STORE in known else ""
        raise UserError(f"expected a file that ends in {endings}{store}, got {path}")


def _write_parquet(rows: Sequence[Row], path: Path) -> None:
    import pyarrow  # takes a quarter of a second to import
    from pyarrow import parquet

    columns: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if isinstance(values[0], np.ndarray):
            flat = pyarrow.array(np.concatenate(values))
            columns[name] = pyarrow.FixedSizeListArray.from_arrays(flat, len(values[0]))
        else:
            kind = pyarrow.float64() if name.startswith("probability") else pyarrow.string()
            columns[name] = pyarrow.array(values, kind)
    parquet.write_table(pyarrow.table(columns), path)


def _join_parquet(parts: Sequence[Path], path: Path) -> None:
    from pyarrow import parquet

    with parquet.ParquetWriter(path, parquet.read_schema(parts[0])) as writer:
        for part in parts:
            writer.write_table(parquet.read_table(part))


def _join_lines(parts: Sequence[Path], path: Path) -> None:
    header = parts[0].suffix == ".csv"
    with path.open("wb") as joined:
        for number, part in enumerate(parts):
            with part.open("rb") as lines:
                if header and number:
                    next(lines)  # no name of a column holds a line break
                while block := lines.read(1 << 20):
                    joined.write(block)


def _join_npz(parts: Sequence[Path], path: Path) -> None:
    with np.load(parts[0]) as columns:
        names = columns.files
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, path.open("wb") as file:
        joined: dict[str, Any] = {
            name: _joined(parts, name, Path(folder, f"{place}.npy"))
            for place, name in enumerate(names)
        }
        np.savez(file, **joined)


def _join_npy(parts: Sequence[Path], path: Path) -> None:
    with np.load(parts[0]) as columns:
        (endpoint,) = set(columns.files) - {"path", "error"}
    _joined(parts, endpoint, path).flush()


def _joined(parts: Sequence[Path], name: str, path: Path) -> np.memmap:
    """Writes a column of all parts as a NumPy file and returns it, mapped."""

    def columns() -> Iterator[np.ndarray]:
        for part in parts:
            with np.load(part) as found:
                yield found[name]

    like = [(column.dtype, len(column), column.shape[1:]) for column in columns()]
    array = np.lib.format.open_memmap(
        path,
        "w+",
        dtype=np.result_type(*(dtype for dtype, _, _ in like)),  # the longest of texts
        shape=(sum(count for _, count, _ in like), *like[0][2]),
    )
    at = 0
    for column in columns():
        array[at : at + len(column)] = column
        at += len(column)
    return array


def _join_store(parts: Sequence[Path], path: Path, made_by: Mapping[str, Any]) -> None:
    starts, id_bytes = [0], 1
    errors: dict[int, str] = {}
    for part in parts:
        with np.load(part) as columns:
            ids = _ids(columns)
            id_bytes = max(id_bytes, *(len(name.encode()) for name in ids))
            errors |= {
                starts[-1] + place: str(columns["error"][place])
                for place in np.flatnonzero(columns["error"]).tolist()
            }
            starts.append(starts[-1] + len(ids))
            widths = {
                name: columns[name].shape[1] for name in columns if name not in ("path", "error")
            }
    draft = parts[0].parent / "store"
    shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed
    store = FeatureStore.create(
        draft,
        {**made_by, "data": {"name": "listed images", "split": ""}},
        starts[-1],
        widths,
        id_bytes,
        starts[1],
        errors,
    )
    for chunk, part in enumerate(parts):
        with np.load(part) as columns:
            ids = _ids(columns)
            features = {name: columns[name] for name in widths}
            store.write(chunk, features, np.full(len(ids), NO_LABEL, np.int32), ids)
    if path.exists():  # the caller knows that it is a store, and may be replaced
        shutil.rmtree(path)
    draft.rename(path)


def _ids(columns: Mapping[str, np.ndarray]) -> list[str]:
    """Returns the paths; bytes that are no UTF-8 become escapes."""
    names = columns["path"].tolist()
    return [os.fsencode(name).decode("utf-8", "backslashreplace") for name in names]
