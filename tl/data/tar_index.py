"""Keeps what lies where in tars of webdataset's form, with the hash of each image."""

import contextlib
import dataclasses
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8

from tl.data import content, kinds, tar_scan, walk
from tl.data.tar_scan import Asked, Index
from tl.errors import UserError
from tl.files import NUMPY_ERRORS, opened_npz, replacing
from tl.weights.fetch import cache_root

_log = logging.getLogger(__name__)


def read(file: Path, asked: Asked) -> Index:
    """Returns a tar's index as it was kept, or else reads the headers and the labels.

    Raises:
      UserError: it cannot be read, is no tar or not whole; samples that cannot be used.
    """
    try:
        marks = content.marks_of(os.stat(file))
        found = _kept(file, asked, marks)
        if found is None:
            with file.open("rb") as opened:
                found = tar_scan.scan(opened, file, asked, marks)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    return found


def hashed(index: Index, asked: Asked) -> Index:
    """Returns the index with digests, after reading each image once; it is kept for the next start.

    Raises:
      UserError: the tar cannot be read, or has changed.
    """
    if index.digests is not None:
        return index
    digests = []
    with opened(index.file, index.marks) as file:
        for offset, size in zip(index.offsets.tolist(), index.sizes.tolist()):
            try:
                digests.append(
                    content.digest(tar_scan.body(file, offset, size)) if size >= 0 else ""
                )
            except OSError as error:
                raise UserError(f"{index.file} cannot be read: {error.strerror}") from error
    found = dataclasses.replace(index, digests=digests)
    if index.marks[1] < time.time_ns() - content.TICK_NS:  # else it may change in the same tick
        _keep(found, asked)
    return found


@contextlib.contextmanager
def opened(file: Path, marks: tuple[int, int, int]) -> Iterator[BinaryIO]:
    """Opens a tar, which must be as it was when it was listed.

    Raises:
      UserError: it cannot be opened, or has changed.
    """
    try:
        found = file.open("rb", buffering=0)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    with found:
        if content.marks_of(os.fstat(found.fileno())) != marks:
            raise UserError(
                f"{file} has changed since it was listed; give the command again once "
                "nothing writes there"
            )
        yield found


def _place(file: Path, asked: Asked) -> Path:
    """Returns where the index is kept. Which endings are images depends on what is installed."""
    parts = (os.path.realpath(file), asked.image, asked.label, *sorted(kinds.endings()))
    name = content.digest(os.fsencode("\0".join(parts)))[:16]
    return cache_root() / "content" / f"tar-{name}.npz"


def _keep(index: Index, asked: Asked) -> None:
    left_out, path = index.left_out, _place(index.file, asked)
    about = {
        "kind": index.kind,
        "endings": left_out.endings,
        "hidden": left_out.hidden,
        "special": left_out.special,
        "examples": index.examples,
        "fields": index.fields,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                marks=np.array(index.marks, np.int64),
                offsets=index.offsets,
                sizes=index.sizes,
                digests=np.array(index.digests, "S32"),
                keys=_bytes("\0".join(index.keys)),
                labels=_bytes("\0".join(index.labels)),
                about=_bytes(json.dumps(about)),
            )
    except OSError as error:
        _log.warning("%s cannot be written (%s): tars are read anew at each start", path, error)


def _bytes(text: str) -> UInt8[np.ndarray, " n"]:
    return np.frombuffer(text.encode(), np.uint8)


def _kept(file: Path, asked: Asked, marks: tuple[int, int, int]) -> Index | None:
    """Returns what was kept of a tar; None where it has changed, or nothing whole is there."""
    try:
        with opened_npz(_place(file, asked)) as arrays:
            if tuple(arrays["marks"].tolist()) != marks:
                return None
            sizes, offsets = arrays["sizes"], arrays["offsets"]
            keys, labels, about = (
                arrays[name].tobytes().decode() for name in ("keys", "labels", "about")
            )
            digests = arrays["digests"].astype(str).tolist()
        of = json.loads(about)
        found = Index(
            file,
            marks,
            keys.split("\0") if len(sizes) else [],
            offsets,
            sizes,
            list(map(sys.intern, labels.split("\0"))) if len(sizes) else [],
            of["kind"],
            walk.LeftOut(Counter(of["endings"]), hidden=of["hidden"], special=of["special"]),
            of["examples"],
            of["fields"],
            digests,
        )
    except NUMPY_ERRORS:
        return None
    columns = (found.keys, found.labels, found.offsets, digests)
    return found if all(len(column) == len(sizes) for column in columns) else None
