"""Hashes of files, kept between starts, and a search for equal images in and between splits."""

import concurrent.futures
import hashlib
import itertools
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Int64, Shaped
from tqdm import tqdm

from tl.data import kinds
from tl.errors import UserError, first_of
from tl.files import progress_options, read_json, replacing
from tl.weights.fetch import cache_root

Hashes = Shaped[np.ndarray, " n"]

_FILES_A_TASK = 64  # that one thread hashes at a time
_PAIRS = 3  # of names in a message
_TICK_NS = 2_000_000_000  # the coarsest clock of a file system, that of FAT

_log = logging.getLogger(__name__)


@runtime_checkable
class Identified(Protocol):
    """A split that knows the content of its images."""

    @property
    def split(self) -> str:
        """As the user named it."""

    def contents(self) -> Hashes:
        """Returns a text for each row, equal where images are byte for byte the same."""

    def ids(self) -> Sequence[str]:
        """Returns the id of each row."""

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the label of each row."""

    def warn(self, text: str) -> None:
        """Logs a warning and keeps it for the run's result."""


class Hashed(NamedTuple):
    """A file's size in bytes and the hash of its content, or why it cannot be read."""

    size: int
    digest: str
    error: str = ""


def digest(data: bytes) -> str:
    """Returns 32 hexadecimal digits of the SHA-256."""
    return hashlib.sha256(data).hexdigest()[:32]


def hash_files(root: Path, paths: Sequence[str]) -> list[Hashed]:
    """Returns what each file holds; a file that has not changed since the last time is not read.

    What was found is kept in one file for each root, in `content` of the cache, until the file is
    gone. A file counts as unchanged if its size, time of change and inode are the same. One that
    changed within the last seconds is not kept: it may change again within one tick of the clock.

    Args:
      root: a folder.
      paths: of files, relative to it.
    """
    kept_in = cache_root() / "content" / f"{digest(os.fsencode(root.resolve()))[:16]}.json"
    known = read_json(kept_in)
    known = known if isinstance(known, dict) else {}
    found: dict[str, Hashed] = {}
    marks: dict[str, list[int]] = {}
    for path in paths:
        try:
            status = os.stat(os.path.join(root, path))
        except OSError as error:
            found[path] = Hashed(0, "", error.strerror or str(error))
            continue
        marks[path] = [status.st_size, status.st_mtime_ns, status.st_ino]
        entry = known.get(path)
        if isinstance(entry, list) and entry[:-1] == marks[path]:
            found[path] = Hashed(status.st_size, entry[-1])
    missing = [path for path in paths if path not in found]
    tasks = [missing[at : at + _FILES_A_TASK] for at in range(0, len(missing), _FILES_A_TASK)]
    options = {"unit": " files", "delay": 1.0} | progress_options()
    with (
        tqdm(total=len(missing), desc="files hashed", **options) as bar,
        concurrent.futures.ThreadPoolExecutor() as threads,
    ):
        for task, hashed in zip(tasks, threads.map(lambda task: _hash_all(root, task), tasks)):
            found |= zip(task, hashed)
            bar.update(len(task))
    if any(not found[path].error for path in missing):
        settled = time.time_ns() - _TICK_NS
        there = {p: e for p, e in known.items() if p in marks or os.path.lexists(root / p)}
        new = {
            p: [*marks[p], found[p].digest]
            for p in missing
            if not found[p].error and marks[p][1] < settled
        }
        _keep(kept_in, there | new)
    return [found[path] for path in paths]


def _hash_all(root: Path, paths: Sequence[str]) -> list[Hashed]:
    hashed = []
    for path in paths:
        try:
            data = kinds.read_bytes(os.path.join(root, path))
            hashed.append(Hashed(len(data), digest(data)))
        except OSError as error:
            hashed.append(Hashed(0, "", error.strerror or str(error)))
    return hashed


def _keep(path: Path, entries: Mapping[str, Sequence[int | str]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(json.dumps(entries))
    except OSError as error:
        _log.warning("%s cannot be written (%s): files are hashed anew at each start", path, error)


def copies(contents: Hashes) -> Int64[np.ndarray, " n"] | None:
    """Returns a number for each row, equal for equal contents; None where all differ."""
    different, numbers = np.unique(contents, return_inverse=True)
    return numbers.astype(np.int64) if len(different) < len(contents) else None


def check_apart(opened: Mapping[str, object], *, allow: bool) -> None:
    """Raises where splits share images, or only warns where that is allowed.

    Args:
      opened: `train`, `test` and, where there is one, `val`; splits that are not `Identified` are
        passed over.
      allow: whether splits may share images.

    Raises:
      UserError: they do and may not.
    """
    known = {part: s for part, s in opened.items() if isinstance(s, Identified)}
    order = [part for part in ("test", "val", "train") if part in known]
    found = [
        (a, text)
        for a, b in itertools.combinations(order, 2)
        if (text := _shared(a, known[a], b, known[b]))
    ]
    if found and not allow:
        raise UserError(
            "; ".join(text for _, text in found)
            + "; remove them from one of the two, or allow it with "
            "`data.allow_duplicates=True`"
        )
    for part, text in found:
        known[part].warn(text)


def _shared(a: str, first: Identified, b: str, second: Identified) -> str:
    there: dict[str, int] = {}
    for row, content in enumerate(second.contents().tolist()):
        there.setdefault(content, row)
    contents = first.contents().tolist()
    rows = [row for row, content in enumerate(contents) if content in there]
    if not rows:
        return ""
    ids, others = first.ids(), second.ids()
    pairs = [f"{ids[row]} = {others[there[contents[row]]]}" for row in rows]
    return (
        f"{len(rows):,} of {len(contents):,} images of {a} are in {b} too, byte for byte: "
        f"{first_of(pairs, _PAIRS)}"
    )


def warn_of_several_classes(source: Identified) -> None:
    """Warns where equal images have different labels."""
    labels = source.labels()
    first: dict[str, int] = {}
    differ = [
        (first[content], row)
        for row, content in enumerate(source.contents().tolist())
        if labels[row] >= 0 and labels[first.setdefault(content, row)] != labels[row]
    ]
    if differ:
        ids = source.ids()
        pairs = [f"{ids[a]} = {ids[b]}" for a, b in differ]
        source.warn(
            f"{len(differ):,} images are in several classes, byte for byte: "
            f"{first_of(pairs, _PAIRS)}"
        )
