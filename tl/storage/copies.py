"""Copies of what lies in an object store, kept on this machine."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from tl import files, paths
from tl.errors import UserError

_INDEX = "index.json"
_BATCH = 64  # files that are fetched together
_INDEX_SECONDS = 10.0  # between notes of what has come; a kill loses what came since


def local_copy(path: Path, cache: Path, leave_out: tuple[str, ...] = ()) -> Path:
    """Returns a copy of a file or a folder on this machine, of which only what is new is fetched.

    A file counts as the same where the store gives it the same tag (of its content) and size.

    Args:
      path: of an object store; one of this machine is returned as it is.
      cache: folder of all copies.
      leave_out: beginnings of names within the folder that are not needed.

    Raises:
      UserError: there is nothing at the path.
    """
    if not paths.is_remote(path):
        return path
    try:
        there = _objects(path, leave_out)
    except Exception as error:
        if not (text := paths.remote_error(error)):
            raise
        raise UserError(f"{path} cannot be read: {text}") from error
    if not there:
        raise UserError(f"there is nothing at {path}")
    kept = cache / paths.digest(path)
    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(kept / ".lock"):
        for left in kept.glob("tmp*"):  # by a kill
            shutil.rmtree(left)
        _update(path, kept, there)
    return kept / path.name


def send(folder: Path, path: Path) -> None:
    """Copies the files of a folder of this machine into a folder of an object store."""
    found = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    names = [file.relative_to(folder).as_posix() for file in found]
    paths.file_system(path).put(list(map(str, found)), [f"{path}/{name}" for name in names])


def _objects(path: Path, leave_out: tuple[str, ...]) -> dict[str, tuple[str, int]]:
    """Returns the names within a folder, '' for a file, with the tag and the size of each."""
    found = {
        name: (_tag(info), int(info["size"]))
        for name, info in paths.files_below(path).items()
        if not name.startswith(leave_out)
    }
    folders = {str(parent) for name in found for parent in PurePosixPath(name).parents}
    for name in found:
        plain = not name or (name == str(PurePosixPath(name)) and ".." not in name.split("/"))
        if not plain or name in folders:
            raise UserError(
                f"{path} holds a file whose name this machine cannot have: {name!r}, for it has an "
                "empty part, '.' or '..', or is a folder too; rename it"
            )
    return found


def _tag(info: Mapping[str, Any]) -> str:
    """Returns what changes with a file's content: S3's ETag, or Google's generation or checksum."""
    known = (info.get(key) for key in ("ETag", "etag", "generation", "md5Hash", "crc32c"))
    return next((str(tag) for tag in known if tag), str(info.get("LastModified", "")))


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def _remove(file: Path, top: Path) -> None:
    """Removes a file, and the folders below `top` that are empty then."""
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # one that holds something
        for folder in file.parents:
            if folder == top or top not in folder.parents:
                return
            folder.rmdir()


def _update(path: Path, kept: Path, there: Mapping[str, tuple[str, int]]) -> None:
    """Makes a copy hold what is there now; what was fetched before a kill is not fetched again."""
    target, index = kept / path.name, kept / _INDEX
    have: dict[str, list[Any]] = files.read_json(index) or {}
    for name in have.keys() - there.keys():
        _remove(target / name, target)
    have = {name: kept for name, kept in have.items() if name in there}
    new = [name for name, tag in there.items() if have.get(name) != [*tag, _size(target / name)]]
    if not new:
        return
    total = sum(there[name][1] for name in new)
    options = files.progress_options() | {"unit": "B", "unit_scale": True}
    noted = time.monotonic()
    try:
        with tqdm(total=total, desc=f"copying {path}", **options) as bar:
            for start in range(0, len(new), _BATCH):
                batch = new[start : start + _BATCH]
                _fetch(path, kept, batch)
                have |= {name: [*there[name], _size(target / name)] for name in batch}
                bar.update(sum(there[name][1] for name in batch))
                if time.monotonic() - noted > _INDEX_SECONDS:
                    files.write_json(index, have)
                    noted = time.monotonic()
    finally:
        files.write_json(index, have)


def _fetch(path: Path, kept: Path, names: Sequence[str]) -> None:
    """Fetches some files of a folder, each whole or not at all."""
    there = [f"{path}/{name}" if name else str(path) for name in names]
    with tempfile.TemporaryDirectory(dir=kept) as folder:
        here = [os.path.join(folder, str(number)) for number in range(len(names))]
        paths.file_system(path).get(there, here)
        for name, file in zip(names, here):
            target = kept / path.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
