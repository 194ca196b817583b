"""Files that are whole or not there, whatever kills the writer; JSON, npz; logs and progress."""

import contextlib
import io
import json
import os
import sys
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from tl import paths

Log = Callable[[str], object]  # takes a line of text, as `print` does
# What NumPy raises on a file that is not there, is damaged, or is of another kind.
NUMPY_ERRORS = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)
PROGRESS_SECONDS = 30.0  # between lines of progress where standard error is no terminal


class _Lines:
    """Standard error, where each state of a progress bar is a line of its own."""

    def write(self, text: str) -> None:
        if text := text.strip():
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_options(*, known: bool = True) -> dict[str, Any]:
    """Returns options of `tqdm.tqdm`: on a terminal its bar, elsewhere a line now and then.

    A log in a file or of a cluster then shows that the work goes on, and how long it will take. Of
    several processes the first one shows it.

    Args:
      known: whether the bar has a total.
    """
    # A rate is of images a second, also below one, where `rate_fmt` would be of seconds an image.
    if sys.stderr.isatty():
        bar = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
        count = "{desc}: {n_fmt}{unit} [{elapsed}, {rate_noinv_fmt}{postfix}]"
        return {"bar_format": bar if known else count, "disable": _is_follower()}
    return {
        "disable": _is_follower(),
        "file": _Lines(),
        "bar_format": "{desc}: {n_fmt} of {total_fmt}, {rate_noinv_fmt}, {remaining} left"
        if known
        else "{desc}: {n_fmt}, {rate_noinv_fmt}",
        "mininterval": PROGRESS_SECONDS,
        "maxinterval": PROGRESS_SECONDS,
        "miniters": 1,
        "delay": PROGRESS_SECONDS,  # what takes less needs none
        "leave": False,
    }


def _is_follower() -> bool:
    """Returns whether this is one of several processes, and not the first, which speaks for all."""
    jax = sys.modules.get("jax")  # not imported here: a download need not wait for it
    return bool(jax and jax.distributed.is_initialized() and jax.process_index())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name to write a file under, which is renamed to `path` if all goes well.

    A reader sees the old file or the whole new one; what fails leaves the old one and no other. For
    an object store the name is of this machine, and the file is sent at the end.
    """
    if paths.is_remote(path):
        with tempfile.TemporaryDirectory(prefix="tl-") as folder:
            partial = Path(folder, path.name)
            yield partial
            paths.file_system(path).put_file(str(partial), str(path))
        return
    partial = partial_name(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def partial_name(path: Path) -> Path:
    """Returns a name, as of no other file, for what becomes or was `path`."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


@contextlib.contextmanager
def opened_npz(path: Path) -> Iterator[Mapping[str, Any]]:
    """Gives the arrays of an npz file by name, each read when it is asked for; no Python objects.

    Raises one of NUMPY_ERRORS where the file cannot be read.
    """
    import numpy as np  # here, for a misspelt flag need not wait for it

    # Opened here: NumPy leaves a file open that it finds damaged.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        yield arrays


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(_text(value))


def read_json(path: Path) -> Any:
    """Returns what a file holds; None where there is none, or no JSON in it.

    An object store that does not answer is an error, not a file that is not there.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        if paths.is_remote(path) and not isinstance(error, FileNotFoundError | ValueError):
            raise
        return None


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, default=_plain) + "\n"


def as_json(value: Any) -> Any:
    """Returns a value as JSON gives it back: tuples are lists, NumPy's numbers are Python's."""
    return json.loads(_text(value))


def append_jsonl(path: Path, record: Mapping[str, Any]) -> None:
    """Appends one record as a line."""
    with appending(path) as file:
        file.write(json.dumps(record, default=_plain) + "\n")


@contextlib.contextmanager
def appending(path: Path, *, anew: bool = False) -> Iterator[TextIO]:
    """Opens a file to append lines to.

    A file of an object store, which cannot grow, is written again at the end, also where an error
    ends the block.

    Args:
      path: of the file.
      anew: whether to drop what it holds.
    """
    if not paths.is_remote(path):
        with path.open("w" if anew else "a", buffering=1) as file:
            yield file
        return
    text = io.StringIO()
    try:
        yield text
    finally:
        before = "" if anew or not path.exists() else path.read_text()
        path.write_text(before + text.getvalue())


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
