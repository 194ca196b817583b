"""Copies of what lies in an object store, kept on this machine."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from tl import files, paths
from tl.errors import UserError

_INDEX = "index.json"
_BATCH = 64  # files that are fetched together


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
        if not (text := paths.store_error(error)):
            raise
        raise UserError(f"{path} cannot be read: {text}") from error
    if not there:
        raise UserError(f"there is nothing at {path}")
    kept = cache / hashlib.sha256(os.fspath(path).encode()).hexdigest()[:16]
    target = kept / path.name
    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(kept / ".lock"):
        _update(path, target, kept / _INDEX, there)
    return target


def send(folder: Path, path: Path) -> None:
    """Copies the files of a folder of this machine into a folder of an object store."""
    found = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    names = [file.relative_to(folder).as_posix() for file in found]
    paths.file_system(path).put(list(map(str, found)), [f"{path}/{name}" for name in names])


def _objects(path: Path, leave_out: tuple[str, ...]) -> dict[str, tuple[str, int]]:
    """Returns the names within a folder, '' for a file, with the tag and the size of each."""
    system = paths.file_system(path)
    root = system._strip_protocol(os.fspath(path))
    found = {}
    for full, info in system.find(root, detail=True).items():
        name = full.removeprefix(root).lstrip("/")
        if full.endswith("/") or name.startswith(leave_out or ("/",)):
            continue
        if ".." in PurePosixPath(name).parts:
            raise UserError(f"{path} holds a file whose name leads out of it: {name}")
        found[name] = (_tag(info), int(info["size"]))
    return found


def _tag(info: Mapping[str, Any]) -> str:
    """Returns what changes with a file's content: S3's ETag, or Google's generation or checksum."""
    known = (info.get(key) for key in ("ETag", "etag", "generation", "md5Hash", "crc32c"))
    return next((str(tag) for tag in known if tag), str(info.get("LastModified", "")))


def _update(path: Path, target: Path, index: Path, there: Mapping[str, tuple[str, int]]) -> None:
    """Makes a copy hold what is there now; what was fetched before a kill is not fetched again."""
    have: dict[str, list[Any]] = files.read_json(index) or {}
    for name in have.keys() - there.keys():
        (target / name).unlink(missing_ok=True)
    have = {name: kept for name, kept in have.items() if name in there}
    new = [
        name
        for name, tag in there.items()
        if have.get(name) != list(tag) or not (target / name).exists()
    ]
    if not new:
        return
    system = paths.file_system(path)
    total = sum(there[name][1] for name in new)
    options = files.progress_options() | {"unit": "B", "unit_scale": True}
    with tqdm(total=total, desc=f"copying {path}", **options) as bar:
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            remote = [f"{path}/{name}" if name else str(path) for name in batch]
            partial = [(target / name).with_name(f".{(target / name).name}.part") for name in batch]
            for file in partial:
                file.parent.mkdir(parents=True, exist_ok=True)
            system.get(remote, list(map(str, partial)))
            for name, file in zip(batch, partial):
                os.replace(file, target / name)
                have[name] = list(there[name])
            files.write_json(index, have)
            bar.update(sum(there[name][1] for name in batch))
