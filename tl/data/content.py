"""Hashes of files, kept between starts, and a search for equal images in and between splits."""

import array
import concurrent.futures
import dataclasses
import hashlib
import itertools
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Int64, Shaped
from tqdm import tqdm

from tl.data import kinds
from tl.errors import UserError, first_of
from tl.files import NUMPY_ERRORS, opened_npz, progress_options, replacing
from tl.weights.fetch import cache_root

Hashes = Shaped[np.ndarray, " n"]

_FILES_A_TASK = 64  # that one thread hashes at a time
_PAIRS = 3  # of names in a message
TICK_NS = 2_000_000_000  # the coarsest clock of a file system, that of FAT

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
      paths: of files, relative to it, or absolute.
    """
    kept_in = cache_root() / "content" / f"{digest(os.fsencode(root.resolve()))[:16]}.npz"
    known = _Known.read(kept_in)
    settled = time.time_ns() - TICK_NS  # a file that is newer may change within the same tick
    found, marks = _unchanged(root, paths, known)
    missing = [row for row, of_row in enumerate(found) if of_row is None]
    tasks = [missing[at : at + _FILES_A_TASK] for at in range(0, len(missing), _FILES_A_TASK)]
    options = {"unit": " files", "delay": 1.0} | progress_options()
    with (
        tqdm(total=len(missing), desc="files hashed", **options) as bar,
        concurrent.futures.ThreadPoolExecutor() as threads,
    ):
        read = threads.map(lambda task: _hash_all(root, [paths[row] for row in task]), tasks)
        for task, hashed in zip(tasks, read):
            for row, new_of_row in zip(task, hashed):
                found[row] = new_of_row
            bar.update(len(task))
    if missing:
        new = {
            paths[row]: (marks[row], of_row.digest)
            for row in missing
            if (of_row := found[row]) and not of_row.error and marks[row][1] < settled
        }
        if new:
            _keep(kept_in, known.with_new(root, new, set(paths)))
    return [of_row for of_row in found if of_row is not None]  # which all are


def _unchanged(
    root: Path, paths: Sequence[str], known: "_Known"
) -> tuple[list[Hashed | None], Int64[np.ndarray, "n 3"]]:
    """Returns what is known of each file, None where it is to be read; and its marks."""
    prefix = os.path.join(root, "")
    marks = array.array("q")
    unreadable: dict[int, str] = {}
    for row, path in enumerate(paths):
        try:
            status = os.stat(path if path[:1] == os.sep else prefix + path)
        except OSError as error:
            unreadable[row] = error.strerror or str(error)
            marks.extend((-1, 0, 0))  # no file's size
            continue
        marks.extend(marks_of(status))
    found_marks = np.array(marks, np.int64).reshape(-1, 3)
    rows = known.rows(paths)
    same = np.flatnonzero(rows >= 0)
    same = same[(found_marks[same] == known.marks[rows[same]]).all(axis=1)]
    found: list[Hashed | None] = [None] * len(paths)
    digests = known.digests[rows[same]].astype(str).tolist()
    for row, size, of_row in zip(same.tolist(), found_marks[same, 0].tolist(), digests):
        found[row] = Hashed(size, of_row)
    for row, reason in unreadable.items():
        found[row] = Hashed(0, "", reason)
    return found, found_marks


def marks_of(status: os.stat_result) -> tuple[int, int, int]:
    """Returns what tells that a file has changed: size, time of change in nanoseconds, inode."""
    return status.st_size, status.st_mtime_ns, _signed(status.st_ino)


def _signed(inode: int) -> int:
    """Returns an unsigned number of 64 bits as one that int64 holds."""
    return inode - (1 << 64) if inode >= 1 << 63 else inode


@dataclasses.dataclass(frozen=True)
class _Known:
    """What was found of files earlier; of ImageNet's it is read in a second, as JSON in five.

    Attributes:
      paths: N, relative to the root or absolute.
      marks: int64 [N, 3]: size, time of change in nanoseconds and inode.
      digests: S32 [N].
    """

    paths: list[str]
    marks: Int64[np.ndarray, "n 3"]
    digests: Shaped[np.ndarray, " n"]

    @classmethod
    def read(cls, file: Path) -> "_Known":
        """Returns what a file holds; nothing where there is none, or it is damaged."""
        try:
            with opened_npz(file) as arrays:
                text = arrays["paths"].tobytes().decode("utf-8", "surrogateescape")
                paths = text.split("\0") if text else []  # no path has a zero byte
                found = cls(paths, arrays["marks"], arrays["digests"])
        except NUMPY_ERRORS:
            return cls([], np.zeros((0, 3), np.int64), np.zeros(0, "S32"))
        if found.marks.shape != (len(paths), 3) or found.digests.shape != (len(paths),):
            return cls([], np.zeros((0, 3), np.int64), np.zeros(0, "S32"))
        return found

    def rows(self, paths: Sequence[str]) -> Int64[np.ndarray, " m"]:
        """Returns the row of each path, -1 for one that is not known."""
        if self.paths == paths:  # as it is where nothing was added or removed
            return np.arange(len(paths))
        row_of = dict(zip(self.paths, range(len(self.paths))))
        return np.array([row_of.get(path, -1) for path in paths], np.int64)

    def write(self, file: Path) -> None:
        """Writes a file that `read` reads."""
        text = "\0".join(self.paths).encode("utf-8", "surrogateescape")
        with file.open("wb") as opened:
            np.savez(
                opened,
                paths=np.frombuffer(text, np.uint8),
                marks=self.marks,
                digests=self.digests,
            )

    def with_new(
        self, root: Path, new: Mapping[str, tuple[np.ndarray, str]], asked: Collection[str]
    ) -> "_Known":
        """Returns the same with new files, and without those that are gone.

        Args:
          root: of relative paths.
          new: path to its marks and digest.
          asked: paths that are known to be there.
        """
        rows = [
            row
            for row, path in enumerate(self.paths)
            if path not in new and (path in asked or os.path.lexists(root / path))
        ]
        return _Known(
            [*(self.paths[row] for row in rows), *new],
            np.concatenate([self.marks[rows], [marks for marks, _ in new.values()]]),
            np.concatenate([self.digests[rows], np.array([d for _, d in new.values()], "S32")]),
        )


def _hash_all(root: Path, paths: Sequence[str]) -> list[Hashed]:
    hashed = []
    for path in paths:
        try:
            data = kinds.read_bytes(os.path.join(root, path))
            hashed.append(Hashed(len(data), digest(data)))
        except OSError as error:
            hashed.append(Hashed(0, "", error.strerror or str(error)))
    return hashed


def _keep(path: Path, known: _Known) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            known.write(partial)
    except OSError as error:
        _log.warning("%s cannot be written (%s): files are hashed anew at each start", path, error)


def copies(contents: Hashes) -> Int64[np.ndarray, " n"] | None:
    """Returns a number for each row, equal for equal contents; None where all differ."""
    if len(set(contents.tolist())) == len(contents):
        return None
    return np.unique(contents.astype(str), return_inverse=True)[1].astype(np.int64)


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
    contents, of_second = first.contents().tolist(), second.contents().tolist()
    fewer, more = sorted((contents, of_second), key=len)
    if set(fewer).isdisjoint(more):
        return ""
    there: dict[str, int] = {}
    for row, content in enumerate(of_second):
        there.setdefault(content, row)
    rows = [row for row, content in enumerate(contents) if content in there]
    ids, others = first.ids(), second.ids()
    pairs = [f"{ids[row]} = {others[there[contents[row]]]}" for row in rows]
    return (
        f"{len(rows):,} of {len(contents):,} images of {a} are in {b} too, byte for byte: "
        f"{first_of(pairs, _PAIRS)}"
    )


def warn_of_several_classes(source: Identified) -> None:
    """Warns where equal images have different labels."""
    labels, contents = source.labels().tolist(), source.contents().tolist()
    if len(set(contents)) == len(contents):
        return
    first: dict[str, int] = {}
    differ = [
        (first[content], row)
        for row, content in enumerate(contents)
        if labels[row] >= 0 and labels[first.setdefault(content, row)] != labels[row]
    ]
    if differ:
        ids = source.ids()
        pairs = [f"{ids[a]} = {ids[b]}" for a, b in differ]
        source.warn(
            f"{len(differ):,} images are in several classes, byte for byte: "
            f"{first_of(pairs, _PAIRS)}"
        )
