"""Writes packs: the images of a run's splits in a few large files, as `tl.data.packed` reads them.

A pack is a folder of ArrayRecord files, a Parquet index for each part and a description. Encoded
images are kept byte for byte.
"""

import dataclasses
import hashlib
import io
import itertools
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from tl.data import content, grouping, packed, sources
from tl.data.encoded import EncodedSource
from tl.data.sources import Source
from tl.errors import UserError, first_of
from tl.files import partial_name, progress_options, write_json

# Large enough that a million photographs are some hundred files, small enough to copy one again.
SHARD_BYTES = 256 << 20
# A record is found without reading another; JPEG and PNG are compressed already.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_ROWS_AT_ONCE = 64

_log = logging.getLogger(__name__)


def write(
    opened: Mapping[str, Source], folder: Path, *, shard_bytes: int = SHARD_BYTES
) -> Mapping[str, packed.Part]:
    """Writes the splits of a run as a pack, whole or not at all.

    It is written under another name beside `folder` and renamed at the end.

    Args:
      opened: 'train' and, where they are there, 'test' and 'val' to a source: what
        `tl.data.sources.open_sources` returns.
      folder: to make; its name must be free.
      shard_bytes: of images in one file, after which the next one begins.

    Returns:
      What was written of each part.

    Raises:
      UserError: the folder is there; an image that cannot be read, unless such are left out; a
        file that changed since its source was opened.
    """
    if os.path.lexists(folder):
        raise UserError(f"{folder} is there already; give another name, or remove it")
    for part, source in opened.items():
        if not len(source):
            raise UserError(f"{source.name}: {part} has no image, so no command could read it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder.parent} cannot be made: {error.strerror}") from error
    if left := [p for p in folder.parent.iterdir() if p.name.startswith(f".{folder.name}.")]:
        _log.warning(
            "packing was stopped before, or goes on: remove %s unless a process is writing it",
            first_of([str(path) for path in left]),
        )
    partial = partial_name(folder)
    partial.mkdir()
    try:
        parts = {
            part: _write_part(source, part, partial, shard_bytes) for part, source in opened.items()
        }
        write_json(
            partial / packed.DESCRIPTION,
            {
                "format": packed.FORMAT,
                "schema": packed.SCHEMA,
                "parts": {part: dataclasses.asdict(about) for part, about in parts.items()},
            },
        )
        partial.rename(folder)
    except BaseException:  # also when it is interrupted
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return parts


def _write_part(source: Source, part: str, folder: Path, shard_bytes: int) -> packed.Part:
    """Writes the shards and the index of one source."""
    warnings = tuple(getattr(source, "warnings", ()))
    rows = _Rows()
    shards = tuple(_write_shards(rows.listed(_records(source)), part, folder, shard_bytes))
    index = folder / f"{part}.parquet"
    _write_index(rows, source, index)
    return packed.Part(
        name=source.name,
        version=source.version,
        split=source.split,
        classes=tuple(source.classes),
        image_shape=source.image_shape,
        id_bytes=source.id_bytes,
        warnings=warnings,
        identity_name=sources.identity(source)["name"],
        index=index.name,
        index_sha256=hashlib.sha256(index.read_bytes()).hexdigest(),
        shards=shards,
    )


class _Rows:
    """Keeps what the index says of each image, while the images pass by."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.sizes: list[int] = []
        self.digests: list[str] = []

    def listed(self, records: Iterator[tuple[bytes, str, str]]) -> Iterator[bytes]:
        for data, id_, digest in records:
            self.ids.append(id_)
            self.sizes.append(len(data))
            self.digests.append(digest)
            yield data


def _records(source: Source) -> Iterator[tuple[bytes, str, str]]:
    """Yields the encoded image, empty where it cannot be read, its id and its digest, of each row.

    Raises:
      UserError: an image cannot be read, unless such are left out; a file has changed.
    """
    options = {"unit": " images", "delay": 1.0} | progress_options()
    expected = source.contents().tolist() if isinstance(source, content.Identified) else None
    with tqdm(total=len(source), desc=f"packed of {source.split or 'all'}", **options) as bar:
        for start in range(0, len(source), _ROWS_AT_ONCE):
            rows = range(start, min(start + _ROWS_AT_ONCE, len(source)))
            if isinstance(source, EncodedSource):
                yield from _encoded(source, rows, expected)
            else:
                for example in map(source.__getitem__, rows):
                    data = _png(example["image"])
                    yield data, example["id"], content.digest(data)
            bar.update(len(rows))


def _encoded(
    source: EncodedSource, rows: Sequence[int], expected: Sequence[str] | None
) -> Iterator[tuple[bytes, str, str]]:
    """Yields what `_records` does of some rows, whose digests are `expected` if these are known."""
    for row, (data, _, id_) in zip(rows, source.encoded(rows), strict=True):
        digest = "" if isinstance(data, OSError) else content.digest(data)
        if isinstance(data, OSError):
            if not source.skip_corrupt:
                raise UserError(
                    f"{source.name}: the image {id_} cannot be read ({data.strerror}); repair or "
                    "remove it, or leave such images out with `data.skip_corrupt=True`"
                )
            data = b""
        elif expected is not None and digest != expected[row]:
            raise UserError(
                f"{source.name}: {id_} has changed since it was listed; give the command again "
                "once nothing writes there"
            )
        yield data, id_, digest if data else ""


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _write_shards(
    records: Iterator[bytes], part: str, folder: Path, shard_bytes: int
) -> Iterator[packed.Shard]:
    """Writes records to files of about `shard_bytes`, and yields each when it is whole."""
    # Half a second to import, for it brings Abseil's.
    from array_record.python.array_record_module import ArrayRecordWriter

    for number in itertools.count():
        first = next(records, None)
        if first is None:
            return
        file = folder / f"{part}-{number:05d}.array_record"
        count = size = 0
        try:
            writer = ArrayRecordWriter(str(file), _WRITER_OPTIONS)
            try:
                for data in itertools.chain([first], records):
                    writer.write(data)
                    count, size = count + 1, size + len(data)
                    if size >= shard_bytes:
                        break
            finally:
                writer.close()
        except RuntimeError as error:  # what its C++ sets off
            raise UserError(
                f"{file} cannot be written: {error}; look at the disk's space"
            ) from error
        if (written := file.stat().st_size) < size:
            raise UserError(
                f"{file} cannot be written: {written:,} of {size:,} bytes; look at the disk's space"
            )
        yield packed.Shard(file.name, count, written)


def _write_index(rows: _Rows, source: Source, file: Path) -> None:
    import pyarrow  # takes a quarter of a second to import
    from pyarrow import parquet

    columns: dict[str, Any] = {
        packed.ID: pyarrow.array(rows.ids, pyarrow.string()),
        packed.LABEL: np.asarray(source.labels(), np.int32),
        packed.SIZE: np.array(rows.sizes, np.int64),
        packed.DIGEST: pyarrow.array(rows.digests, pyarrow.string()),
    }
    if (groups := sources.groups(source)) is not None:
        columns[packed.GROUP] = groups.astype(np.int64)
    if (names := grouping.names_of(source)) is not None:
        columns[packed.GROUP_NAME] = pyarrow.array(names.tolist(), pyarrow.string())
    parquet.write_table(pyarrow.table(columns), file)
