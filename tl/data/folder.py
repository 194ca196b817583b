"""Folders of images: root/<split>/<class>/**/*.jpg, or one level that is divided by a rule."""

import contextlib
import hashlib
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Shaped

from tl.data import encoded, splits
from tl.errors import UserError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"})
_VAL_NAMES = ("val", "validation", "valid")
_SPLIT_NAMES = frozenset({"train", "training", "test", "testing", *_VAL_NAMES})
_LAYOUT = "expected ROOT/<class>/*.jpg, or ROOT/train/<class>/*.jpg with ROOT/val and ROOT/test"

_log = logging.getLogger(__name__)


class ImageFile(NamedTuple):
    """One image: its path relative to the root, and what shows that its content changed."""

    path: str
    label: int
    size: int
    mtime_ns: int


class FolderSource(encoded.EncodedSource):
    """Image files in class folders; ids are their paths relative to the root."""

    def __init__(
        self,
        root: pathlib.Path,
        files: Sequence[ImageFile],
        *,
        classes: Sequence[str],
        split: str,
        skip_corrupt: bool,
    ):
        self.root = root
        self.files = sorted(files)
        self._ids = [_as_id(file.path) for file in self.files]
        content = hashlib.sha256()
        for file, id_ in zip(self.files, self._ids):
            content.update(f"{id_}\0{file.label}\0{file.size}\0{file.mtime_ns}\n".encode())
        super().__init__(
            name=_as_id(root.resolve().name),
            version=content.hexdigest()[:16],
            split=split,
            classes=[_as_id(name) for name in classes],
            image_shape=None,
            id_bytes=max(len(id_.encode()) for id_ in self._ids),
            skip_corrupt=skip_corrupt,
        )

    def __len__(self) -> int:
        return len(self.files)

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the labels, int32 [N], as the folders say; corrupt images are not known here."""
        return np.array([file.label for file in self.files], np.int32)

    def places(self) -> Shaped[np.ndarray, " n"]:
        """Returns the path of each row's file, which no other file has."""
        return np.array(self._ids)

    def subset(self, rows: Int[np.ndarray, " rows"], split: str) -> "FolderSource":
        """Returns a source of some of the rows."""
        return FolderSource(
            self.root,
            [self.files[row] for row in rows],
            classes=self.classes,
            split=split,
            skip_corrupt=self.skip_corrupt,
        )

    def _read(self, rows: Sequence[int]) -> Iterator[tuple[bytes, int, str]]:
        for row in rows:
            path = self.root / self.files[row].path
            with _naming(path):
                data = path.read_bytes()
            yield data, self.files[row].label, self._ids[row]


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Raises an error of the file system as a `UserError` that names the path."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or path} cannot be read: {error.strerror}") from error


def _as_id(path: str) -> str:
    """Returns the path in POSIX form; bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(pathlib.PurePath(path).as_posix()).decode("utf-8", "backslashreplace")


def _visible_folders(directory: pathlib.Path) -> list[str]:
    with _naming(directory), os.scandir(directory) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _files_below(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the files of a class folder and of the folders in it, but for hidden ones."""

    def refuse(error: OSError) -> None:  # os.walk passes over what it cannot list
        raise error

    for parent, folders, names in os.walk(directory, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (pathlib.Path(parent, name) for name in names if not name.startswith("."))


def open_folder(
    root: str, split: str, *, skip_corrupt: bool = False, field: str = ""
) -> FolderSource:
    """Returns all images below root/<split>/<class>, classes in alphabetical order.

    Args:
      root: the data set's directory.
      split: a directory in it, or '' where the class folders lie in root itself.
      skip_corrupt: leave out images that cannot be decoded.
      field: the config's field that names the split, for errors.

    Raises:
      UserError: no such directory, fewer than two classes, or a class without images.
    """
    if not root:
        raise UserError(f"name the folder of images; {_LAYOUT}", field="data.data_dir")
    if os.path.isabs(split) or ".." in pathlib.PurePath(split).parts:
        raise UserError(f"a split is a directory in ROOT, got {split!r}; {_LAYOUT}", field=field)
    base = pathlib.Path(os.path.expanduser(root))
    directory = base / split
    if not os.path.isdir(directory):
        at_fault = field if split and base.is_dir() else "data.data_dir"
        raise UserError(f"there is no directory {directory}; {_LAYOUT}", field=at_fault)
    classes = _visible_folders(directory)
    if len(classes) < 2:
        found = f"the one folder {classes[0]!r}" if classes else "no folders"
        raise UserError(f"{directory} must hold a folder for each of >= 2 classes; found {found}")
    files: list[ImageFile] = []
    ignored, empty = 0, []
    for label, name in enumerate(classes):
        before = len(files)
        with _naming(directory / name):
            for path in _files_below(directory / name):
                if path.suffix.lower() in EXTENSIONS:
                    stat = path.stat()
                    relative = str(path.relative_to(base))
                    files.append(ImageFile(relative, label, stat.st_size, stat.st_mtime_ns))
                else:
                    ignored += 1
        if len(files) == before:
            empty.append(name)
    if empty:
        raise UserError(
            f"no images ({', '.join(sorted(EXTENSIONS))}) in these class folders of {directory}: "
            f"{', '.join(empty[:10])}{' ...' if len(empty) > 10 else ''}; fill or remove them"
        )
    _log.info(
        "%s: %d images of %d classes; %d files that are no images were ignored",
        directory, len(files), len(classes), ignored,
    )  # fmt: skip
    return FolderSource(base, files, classes=classes, split=split, skip_corrupt=skip_corrupt)


def open_splits(
    root: str,
    *,
    train: str,
    val: str | None,
    test: str,
    test_fraction: float,
    seed: int,
    skip_corrupt: bool,
) -> dict[str, FolderSource]:
    """Returns the sources of a folder under 'train', 'test' and, where there is one, 'val'.

    Without a test directory, a stratified share of the training images becomes the test split.

    Args:
      root: the data set's directory.
      train: name of the training directory; without it, the classes lie in root itself.
      val: name of the validation directory, or None for val/, validation/ or valid/ if there.
      test: name of the test directory.
      test_fraction: share of a class's images that is tested on where no directory says it.
      seed: of that division.
      skip_corrupt: leave out images that cannot be decoded.

    Raises:
      UserError: what was said is not there, the directories do not hold the same classes, or a
        share or seed is needed that cannot be used.
    """
    base = pathlib.Path(os.path.expanduser(root))

    def is_there(name: str) -> bool:
        return bool(root and name) and os.path.isdir(base / name)

    if val is None:
        val = next((n for n in _VAL_NAMES if n != test and is_there(n)), None)
    if is_there(train):
        names = {"train": train}
        if is_there(test) or test != "test":  # a name that somebody chose must be there
            names["test"] = test
        if val is not None:
            names["val"] = val
    else:
        _check_one_level(base, train, val, test)
        names = {"train": ""}
    opened = {
        key: open_folder(root, name, skip_corrupt=skip_corrupt, field=f"data.{key}")
        for key, name in names.items()
    }
    for source in opened.values():
        _check_same_classes(opened["train"], source)
    if "test" not in opened:
        whole = opened["train"]
        if not 0.0 < test_fraction < 1.0:
            raise UserError(
                f"expected a share between 0 and 1, got {test_fraction}", field="data.test_fraction"
            )
        if seed < 0:
            raise UserError(f"expected at least 0, got {seed}", field="data.seed")
        kept, held = splits.holdout(whole.labels(), test_fraction, seed)
        opened["train"] = whole.subset(kept, train)
        opened["test"] = whole.subset(held, test)
        _log.info(
            "%s has no test directory: %d of %d images are held out for testing (seed %d)",
            base, len(held), len(whole), seed,
        )  # fmt: skip
    return opened


def _check_one_level(base: pathlib.Path, train: str, val: str | None, test: str) -> None:
    """Refuses a root whose folders are splits by other names: they would be taken for classes."""
    folders = _visible_folders(base) if base.is_dir() else []
    found = [n for n in folders if n.lower() in _SPLIT_NAMES or n in (val, test)]
    if found or train != "train" or val is not None:
        there = f"{', '.join(map(repr, found))} but " if found else ""
        raise UserError(
            f"{base} has {there}no {train!r}; {_LAYOUT}. Directories of other names are given with "
            "`data.train`, `data.val` and `data.test`"
        )


def _check_same_classes(train: FolderSource, other: FolderSource) -> None:
    missing = sorted(set(train.classes) - set(other.classes))
    extra = sorted(set(other.classes) - set(train.classes))
    if missing or extra:
        raise UserError(
            f"{other.split}/ must hold the {len(train.classes)} classes of {train.split}/; "
            f"missing: {', '.join(missing[:10]) or 'none'}; "
            f"not in {train.split}/: {', '.join(extra[:10]) or 'none'}"
        )
