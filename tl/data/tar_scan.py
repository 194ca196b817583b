"""Reads the headers and labels of a tar of webdataset's form; bodies of images are passed over."""

import array
import dataclasses
import json
import re
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int64

from tl.data import kinds, tables, walk
from tl.data.folder import as_id
from tl.errors import UserError, first_of

NUMBER, TEXT = "number", "text"  # kinds of labels
FIELDS = ("label", "cls", *(name for name in tables.LABELS if name != "label"))
LARGEST_JSON = 1 << 20  # bytes; metadata of one image is far below
_LARGEST_CLS = 64  # bytes, room for any integer
_INTEGER = re.compile(rb"\s*([+-]?\d+)\s*")
_EXAMPLES = 5  # names and fields in a message
_PADDING = 1 << 16  # bytes that are looked at behind the end; tars are padded to 10,240
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
# What `tarfile` raises on headers that are damaged.
_TAR_ERRORS = (tarfile.TarError, ValueError, IndexError, OverflowError, RecursionError)


@dataclasses.dataclass(frozen=True)
class Asked:
    """Which members are images and labels.

    Attributes:
      image: what follows a key's dot in the names of images, such as 'jpg'; '' for any image's.
      label: a field of `KEY.json`, or 'cls' for `KEY.cls`; '' for `KEY.cls` and, where there is
        none, the first field of FIELDS.
    """

    image: str = ""
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Index:
    """The samples of one tar, N of them in their order.

    Attributes:
      file: the tar.
      marks: of it (`tl.data.content.marks_of`) when it was read.
      keys: of the samples, none twice.
      offsets: int64 [N], where each image begins; where there is none, its label.
      sizes: int64 [N] of the images in bytes, -1 for a label without an image.
      labels: N texts, '' for an image without one.
      kind: NUMBER or TEXT; '' without labels.
      left_out: other members; `special` are links, devices and sparse files.
      examples: names of some of them.
      fields: those of one `KEY.json` in which no label was found.
      digests: N hashes of the images, '' without one; None where they are not known yet.
    """

    file: Path
    marks: tuple[int, int, int]
    keys: list[str]
    offsets: Int64[np.ndarray, " n"]
    sizes: Int64[np.ndarray, " n"]
    labels: list[str]
    kind: str
    left_out: walk.LeftOut
    examples: list[str]
    fields: list[str]
    digests: list[str] | None = None


def scan(file: BinaryIO, path: Path, asked: Asked, marks: tuple[int, int, int]) -> Index:
    """Returns the index of a tar, without digests.

    Args:
      file: the tar, opened.
      path: of it.
      asked: which members are images and labels.
      marks: of the file.

    Raises:
      UserError: it is no tar or not whole; samples that cannot be used.
      OSError: it cannot be read.
    """
    return _Scan(file, path, asked).index(marks)


def body(file: BinaryIO, offset: int, size: int) -> bytes:
    """Returns some bytes of a tar.

    Raises:
      OSError: they cannot be read, or are not there.
    """
    file.seek(offset)
    data = file.read(size)
    while len(data) < size:  # a single read gives 2 GiB at most
        more = file.read(size - len(data))
        if not more:
            raise OSError(0, "the tar has become shorter")
        data += more
    return data


def _members(file: BinaryIO, path: Path) -> Iterator[tarfile.TarInfo]:
    """Yields the members. `tarfile` seeks from header to header, but says little of an early end.

    Raises:
      UserError: it is no tar, damaged or not whole.
    """
    at = 0
    try:
        # Any other encoding would depend on the machine.
        with tarfile.open(
            fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape"
        ) as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                if info.size < 0 or tar.offset <= at:  # a damaged size would lead in a circle
                    raise tarfile.ReadError(f"member {info.name!r} has a size below 0")
                at = tar.offset
                yield info
            at = tar.offset
    except _TAR_ERRORS as error:
        raise UserError(_not_whole(file, path, str(error))) from error
    file.seek(at)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise UserError(_not_whole(file, path, f"it ends at byte {at + len(block):,}"))
    if block.strip(b"\0"):
        raise UserError(_not_whole(file, path, f"no member begins at byte {at:,}"))
    if file.read(_PADDING).strip(b"\0"):
        raise UserError(
            f"{path}: more follows the end mark at byte {at:,}, which would be passed over; tars "
            "are joined by `tar --concatenate`, not by `cat`"
        )


def _not_whole(file: BinaryIO, path: Path, reason: str) -> str:
    file.seek(0)
    if file.read(8).startswith(_COMPRESSED):
        return f"{path} is compressed, so images cannot be read one by one; decompress it"
    return f"{path} is no tar, or not whole ({reason}); copy or download it again"


class _Scan:
    """Collects the samples of a tar while its members pass by."""

    def __init__(self, file: BinaryIO, path: Path, asked: Asked):
        self._file, self._path, self._asked = file, path, asked
        self._keys: list[str] = []
        self._offsets, self._sizes = array.array("q"), array.array("q")
        self._labels: list[str] = []
        self._first: dict[str, str] = {}  # kind of label to the first key that has it
        self._left_out = walk.LeftOut()
        self._examples: list[str] = []
        self._fields: list[str] = []
        self._seen: set[str] = set()
        self._sample: dict[str, tarfile.TarInfo] = {}  # 'image', 'cls' and 'json' of one key
        self._key = ""

    def index(self, marks: tuple[int, int, int]) -> Index:
        """Returns the index of all samples."""
        for info in _members(self._file, self._path):
            self._add(info)
        self._finish()
        return Index(
            self._path,
            marks,
            self._keys,
            np.array(self._offsets, np.int64),
            np.array(self._sizes, np.int64),
            self._labels,
            next(iter(self._first), ""),
            self._left_out,
            self._examples,
            self._fields,
        )

    def _add(self, info: tarfile.TarInfo) -> None:
        if info.isdir():
            return
        *folders, name = [part for part in info.name.split("/") if part not in ("", ".")] or [""]
        if any(part[0] == "." for part in (*folders, name) if part and part != "..") or any(
            folder.lower() in walk.NOT_DATA for folder in folders
        ):
            self._left_out.hidden += 1
            return
        if not info.isreg() or info.issparse():
            self._left_out.special += 1
            return
        stem, _, ending = name.partition(".")
        role = self._role(ending.lower())
        if not role:
            self._left_out.endings[kinds.ending(name)] += 1
            if len(self._examples) < _EXAMPLES:
                self._examples.append(as_id(info.name))
            return
        # A zero byte, which PAX headers can hold, would divide the key where it is kept.
        key = as_id("/".join((*folders, stem))).replace("\0", "\\0")
        if key != self._key:
            self._finish()
            if key in self._seen:
                raise UserError(
                    f"{self._path}: members of {key!r} lie in several places; expected all members "
                    "of a key one after the other, as `tar --sort=name` writes them"
                )
            self._seen.add(key)
            self._key = key
        if role in self._sample:
            what = "images" if role == "image" else f"members {role}"
            raise UserError(
                f"{self._path}: {key!r} has two {what}, {as_id(self._sample[role].name)} and "
                f"{as_id(info.name)}; expected one. A key ends at the first dot of a name; "
                "`data.image_column` says what follows it in images, such as jpg"
            )
        self._sample[role] = info

    def _role(self, ending: str) -> str:
        if ending in ("cls", "json"):
            return ending
        if self._asked.image:
            return "image" if ending == self._asked.image.lower().lstrip(".") else ""
        return "image" if f".{ending}" in kinds.endings() else ""

    def _finish(self) -> None:
        """Ends a sample; one without an image and without a label is none."""
        sample, self._sample = self._sample, {}
        if not sample:
            return
        kind, label = self._label(sample)
        if kind:
            self._first.setdefault(kind, self._key)
        if len(self._first) > 1:
            raise mixed({k: f"{self._path}: {key}" for k, key in self._first.items()})
        if "image" in sample or label:
            place = sample.get("image") or sample.get("cls") or sample["json"]
            self._keys.append(self._key)
            self._offsets.append(place.offset_data)
            self._sizes.append(place.size if "image" in sample else -1)
            self._labels.append(sys.intern(label))

    def _label(self, sample: dict[str, tarfile.TarInfo]) -> tuple[str, str]:
        """Returns the kind and the text of a sample's label; '' for none."""
        wanted = self._asked.label
        if "cls" in sample and wanted in ("", "cls"):
            info = sample["cls"]
            text = body(self._file, info.offset_data, min(info.size, _LARGEST_CLS))
            number = _INTEGER.fullmatch(text)
            if info.size > _LARGEST_CLS or not number:
                raise UserError(
                    f"{self._path}: {as_id(info.name)} must hold an integer, got {text!r}; a label "
                    'in words belongs in KEY.json, as in {"label": "cat"}'
                )
            return NUMBER, str(int(number[1]))
        if "json" not in sample or wanted == "cls":
            return "", ""
        info = sample["json"]
        where = f"{self._path}: {as_id(info.name)}"
        values = self._json(info, where)
        field = next((f for f in ((wanted,) if wanted else FIELDS) if f in values), None)
        if field is None:
            self._fields = self._fields or [_plain(name) for name in values][:_EXAMPLES]
            return "", ""
        return _text(values[field], f"{where}: {field}")

    def _json(self, info: tarfile.TarInfo, where: str) -> dict[str, Any]:
        if info.size > LARGEST_JSON:
            raise UserError(
                f"{where} has {info.size:,} bytes; expected a JSON object of at most "
                f"{LARGEST_JSON:,}. Labels in KEY.cls are read with `data.label_column=cls`"
            )
        try:
            values = json.loads(body(self._file, info.offset_data, info.size))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} cannot be read as JSON: {error}") from error
        if not isinstance(values, dict):
            raise UserError(
                f'{where}: expected a JSON object, such as {{"label": 3}}, got {str(values)[:60]!r}'
            )
        return values


def mixed(first: dict[str, str]) -> UserError:
    """Returns the error for labels of both kinds.

    Args:
      first: kind to where it was found first.
    """
    return UserError(
        f"labels must be all numbers or all texts; got a number ({first[NUMBER]}) and a text "
        f"({first[TEXT]}). `data.label_column` names the one field of KEY.json that is meant, or "
        "cls for KEY.cls"
    )


def _text(value: object, where: str) -> tuple[str, str]:
    """Returns the kind and the text of a label in JSON.

    Raises:
      UserError: it is neither an integer nor a text.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return NUMBER, str(value)
    if value is None:
        return "", ""
    if isinstance(value, str):
        text = _plain(value.strip())
        return (TEXT, text) if text else ("", "")
    raise UserError(f"{where}: expected an integer or a text, got {str(value)[:60]!r}")


def _plain(text: str) -> str:
    """Returns a text that UTF-8 can hold, without zero bytes."""
    return walk.nfc(text).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def left_out(indexes: Sequence[Index]) -> str:
    """Returns a clause for errors: what lies in tars without images, or without labels."""
    names = [name for index in indexes for name in index.examples]
    fields = next((index.fields for index in indexes if index.fields), [])
    text = f"; other members are such as {first_of(names, _EXAMPLES)}" if names else ""
    return text + (f"; the fields of KEY.json are {first_of(fields)}" if fields else "")
