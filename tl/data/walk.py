"""Walks folders as they lie on disks: follows links, and counts what is left out."""

import collections
import dataclasses
import logging
import operator
import os
import unicodedata
from collections.abc import Iterator

from tl.data import kinds
from tl.errors import UserError

# Folders that systems and programs make for themselves, in lower case.
NOT_DATA = frozenset(
    {
        "@eadir",
        "__macosx",
        "__pycache__",
        "lost+found",
        "$recycle.bin",
        "system volume information",
        "#recycle",
        "#snapshot",
    }
)

_name = operator.attrgetter("name")

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class LeftOut:
    """Counts what a walk leaves out.

    Attributes:
      endings: of files that are no images, '' for none.
      folders: names of folders that hold no data, such as '@eaDir'.
      hidden: number of files and folders whose name begins with a dot.
      special: number of pipes, sockets and devices.
      loops: number of links back to a folder that is being walked.
    """

    endings: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    folders: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    hidden: int = 0
    special: int = 0
    loops: int = 0

    def __str__(self) -> str:
        """Returns the counts, '' where nothing was left out.

        >>> str(LeftOut(collections.Counter({".txt": 2, "": 1}), hidden=3))
        '2 .txt, 1 without an ending, 3 hidden'
        """
        parts = [f"{n:,} {name or 'without an ending'}" for name, n in self._files()]
        parts += [
            f"{n:,} {'folder' if n == 1 else 'folders'} {name}" for name, n in _sorted(self.folders)
        ]
        for count, name in (
            (self.hidden, "hidden"),
            (self.special, "that are no regular files"),
            (self.loops, "links back to a folder above them"),
        ):
            if count:
                parts.append(f"{count:,} {name}")
        return ", ".join(parts)

    def warning(self) -> str:
        """Returns what to know of files that may be images, '' where there are none."""
        perhaps = [(name, n) for name, n in self._files() if name in kinds.PERHAPS_IMAGES]
        if not perhaps:
            return ""
        text = "left out, though they may be or hold images: " + ", ".join(
            f"{n:,} {name}" for name, n in perhaps
        )
        if any(name in kinds.HEIC for name, _ in perhaps):
            text += "; HEIC is read once pillow-heif is installed"
        if any(name not in kinds.HEIC for name, _ in perhaps):
            text += "; convert them to JPEG, PNG or TIFF to have them read"
        return text

    def _files(self) -> list[tuple[str, int]]:
        return _sorted(self.endings)


def _sorted(counter: collections.Counter[str]) -> list[tuple[str, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def nfc(name: str) -> str:
    """Returns a name in Unicode's composed form; macOS writes names in the other one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def identity(directory: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns what tells a directory from all others, by whatever path it is reached.

    Raises:
      UserError: it is not there.
    """
    try:
        status = os.stat(directory)
    except OSError as error:
        raise UserError(f"{directory} cannot be read: {error.strerror}") from error
    return status.st_dev, status.st_ino


def contents(directory: str, left_out: LeftOut) -> tuple[list[str], list[str]]:
    """Returns the paths of a folder's images and of the folders in it, links followed.

    Among the images are links that lead nowhere: whoever reads them says so. Both lists are in the
    order of the names' composed form.

    Args:
      directory: the folder.
      left_out: counts all else.

    Raises:
      UserError: the folder cannot be listed.
    """
    try:
        with os.scandir(directory) as scanned:
            entries = list(scanned)
    except OSError as error:
        raise UserError(
            f"{error.filename or directory} cannot be read: {error.strerror}"
        ) from error
    # Plain ASCII is composed already; of a million files this saves most of a second.
    plain = all(entry.name.isascii() for entry in entries)
    entries.sort(key=_name if plain else lambda entry: (nfc(entry.name), entry.name))
    images, folders = [], []
    for entry in entries:
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
            leads_nowhere = not is_folder and not is_file and not os.path.exists(entry.path)
        except OSError:  # such as a link to itself
            is_folder, is_file, leads_nowhere = False, False, True
        name = entry.name
        if name[0] == ".":
            left_out.hidden += 1
        elif is_folder and name.lower() in NOT_DATA:
            left_out.folders[name] += 1
        elif is_folder:
            folders.append(entry.path)
        elif leads_nowhere or (is_file and kinds.is_image(entry.path)):
            images.append(entry.path)
        elif is_file:
            left_out.endings[kinds.ending(name)] += 1
        else:
            left_out.special += 1
    return images, folders


def images_below(
    directory: str, left_out: LeftOut, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str]:
    """Yields the paths of the images in a folder and below it: a folder's own, then its folders'.

    Args:
      directory: the folder.
      left_out: counts what is no image, and links to a folder that is being walked, which are not
        followed.
      above: `identity` of folders that are being walked.

    Raises:
      UserError: a folder that cannot be listed.
    """
    if identity(directory) in above:
        left_out.loops += 1
        return
    images, folders = contents(directory, left_out)
    yield from images
    above |= {identity(directory)}
    for folder in folders:
        yield from images_below(folder, left_out, above)
