"""Finds tars of webdataset's form in a folder, the splits that they are of and names of classes."""

import logging
import os
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from tl.data import division, kinds, walk
from tl.errors import UserError, first_of

ENDING = ".tar"
CLASS_FILES = ("classes.txt", "classnames.txt")
_COMPRESSED = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
_SPLIT_NAMES = frozenset(name for names in division.USUAL.values() for name in names)
_LAYOUT = (
    "expected FOLDER/train/*.tar with FOLDER/val and FOLDER/test, names such as train-000000.tar "
    "in one folder, or *.tar that are not divided"
)

_log = logging.getLogger(__name__)


def is_folder_of_tars(path: Path) -> bool:
    """Returns whether a folder has tars, but neither images nor folders; or has such splits."""
    try:
        return _holds_tars(path) or any(
            _holds_tars(path / name)
            for name in os.listdir(path)
            if name.lower() in _SPLIT_NAMES and (path / name).is_dir()
        )
    except OSError:  # whoever reads the folder says why
        return False


def _is_tar(name: str) -> bool:
    return name[0] != "." and (name.lower().endswith(ENDING) or bool(_COMPRESSED.search(name)))


def _holds_tars(folder: Path) -> bool:
    found = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == ".":
                continue
            if entry.is_dir() or (entry.is_file() and kinds.is_image(entry.path)):
                return False
            found = found or _is_tar(entry.name)
    return found


def found_in(root: Path, names: Collection[str]) -> dict[str, list[Path]]:
    """Returns the tars of each split, '' alone where they are not divided.

    Raises:
      UserError: there are none, compressed ones, or some of no split beside others.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder or tar {root}; {_LAYOUT}", field="data.data_dir")
    loose = _listed(root)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
    found = {p.name: files for p in folders if (files := _listed(p))}
    if loose and found:
        raise UserError(
            f"{root} has tars itself, such as {loose[0].name}, and in the folders "
            f"{first_of(list(found))}; {_LAYOUT}",
            field="data.data_dir",
        )
    if not loose and not found:
        raise UserError(f"{root} has no {ENDING}; {_LAYOUT}", field="data.data_dir")
    if found:
        return found
    known = _SPLIT_NAMES.union(name.lower() for name in names if name)
    for file in loose:
        words = re.split(r"[-_.]", file.stem)
        found.setdefault(next((w for w in words if w.lower() in known), ""), []).append(file)
    if "" in found and len(found) > 1:
        raise UserError(
            f"the names of {len(found['']):,} of {len(loose):,} tars of {root} tell no split, such "
            f"as {found[''][0].name}; {_LAYOUT}. `data.train`, `data.val` and `data.test` give "
            "names of splits",
            field="data.data_dir",
        )
    return found


def _listed(folder: Path) -> list[Path]:
    """Returns the tars in a folder in the order of their names.

    Raises:
      UserError: some are compressed, or it cannot be listed.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if _is_tar(name))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error
    if compressed := [name for name in names if not name.lower().endswith(ENDING)]:
        raise UserError(
            f"{folder} has compressed tars, in which images cannot be read one by one: "
            f"{first_of(compressed, 3)}; decompress them, which makes JPEGs hardly larger",
            field="data.data_dir",
        )
    return [folder / name for name in names]


def class_names(root: Path, found: list[str]) -> list[str]:
    """Returns the names of classes: of numbers the lines of a file in the folder, if there is one.

    Raises:
      UserError: the file cannot be read, lacks a line, or names two classes alike.
    """
    file = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    if file is None:
        return found
    if not all(name.isdecimal() for name in found):
        _log.info("%s is not used, for labels are no numbers from 0 on", file)
        return found
    try:
        lines = [walk.nfc(line.strip()) for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as text in UTF-8: {error}") from error
    for number in map(int, found):
        if number >= len(lines) or not lines[number]:
            raise UserError(
                f"{file} has no name for the label {number}; expected one a line, the first of "
                f"label 0, got {len(lines):,} lines"
            )
    names = [lines[int(number)] for number in found]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{file} gives several labels one name: {first_of(twice)}; rename some")
    return names
