"""Folders of images: root/<split>/<class>/**/*.jpg, or one level that is divided by a rule."""

import contextlib
import dataclasses
import gc
import hashlib
import itertools
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Int64, Shaped

from tl.data import content, division, encoded, grouping, kinds, walk
from tl.data.division import VAL_NAMES, Wanted
from tl.errors import UserError, first_of

_SPLIT_NAMES = frozenset(name for names in division.USUAL.values() for name in names)
_LAYOUT = "expected ROOT/<class>/*.jpg, or ROOT/train/<class>/*.jpg with ROOT/val and ROOT/test"
_ROWS_AT_ONCE = 4096  # whose names are hashed together

_log = logging.getLogger(__name__)


class ImageFile(NamedTuple):
    """One image: its id, its path relative to the root, its label and what its file holds."""

    id: str
    path: str
    label: int
    size: int
    digest: str  # of its content; '' for a file that cannot be read
    group: str = ""  # its name; '' for none


class FolderSource(encoded.EncodedSource):
    """Image files in class folders; ids are their paths relative to the root.

    Its version depends on the names, labels and contents of the files, not on where they lie.
    """

    # Stands for the folder's name in what must be the same for features and runs to go on.
    identity_name = "folder"

    def __init__(
        self,
        root: pathlib.Path,
        files: Sequence[ImageFile],
        *,
        classes: Sequence[str],
        split: str,
        skip_corrupt: bool,
        name: str = "",
    ):
        """Takes listed files.

        Args:
          root: of their paths.
          files: at least one.
          classes: names, in the order of the labels.
          split: as the user named it.
          skip_corrupt: leave out images that cannot be decoded.
          name: of the data set; default that of `root`.
        """
        self.root = root
        self.files = sorted(files)
        version = hashlib.sha256()
        for start in range(0, len(self.files), _ROWS_AT_ONCE):
            lines = [
                f"{file.id}\0{file.label}\0{file.size}\0{file.digest}\n"
                for file in self.files[start : start + _ROWS_AT_ONCE]
            ]
            version.update("".join(lines).encode())
        super().__init__(
            name=name or as_id(root.resolve().name),
            version=version.hexdigest()[:16],
            split=split,
            classes=classes,
            image_shape=None,
            id_bytes=max(len(file.id.encode()) for file in self.files),
            skip_corrupt=skip_corrupt,
        )

    def __len__(self) -> int:
        return len(self.files)

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the labels, int32 [N], as the folders say; corrupt images are not known here."""
        return np.array([file.label for file in self.files], np.int32)

    def ids(self) -> list[str]:
        """Returns the path of each row's file, relative to the root."""
        return [file.id for file in self.files]

    def places(self) -> Shaped[np.ndarray, " n"]:
        """Returns the path of each row's file, which no other file has."""
        return np.array(self.ids(), object)  # as text NumPy would copy it, at 4 bytes a character

    def contents(self) -> content.Hashes:
        """Returns a text for each row, equal where files are byte for byte the same."""
        return np.array([file.digest or f"unreadable {file.id}" for file in self.files], object)

    def groups(self) -> Int64[np.ndarray, " n"] | None:
        """Returns a number for each row, equal for equal files and within named groups.

        None where every row stands alone.
        """
        numbers = grouping.numbers(self.group_names())
        return grouping.joined(numbers, content.copies(self.contents()))

    def group_names(self) -> grouping.Names | None:
        """Returns the name of each row's group, its id where it has none; None without groups."""
        if not any(file.group for file in self.files):
            return None
        return np.array([file.group or file.id for file in self.files])

    def subset(self, rows: Int[np.ndarray, " rows"], split: str) -> "FolderSource":
        """Returns a source of some of the rows."""
        return FolderSource(
            self.root,
            [self.files[row] for row in rows],
            classes=self.classes,
            split=split,
            skip_corrupt=self.skip_corrupt,
            name=self.name,
        )

    def _read(self, rows: Sequence[int]) -> Iterator[tuple[bytes | OSError, int, str]]:
        for row in rows:
            file = self.files[row]
            path = self.root / file.path
            data: bytes | OSError
            try:
                data = kinds.read_bytes(path)
            except OSError as error:
                if not self.skip_corrupt:
                    raise UserError(f"{path} cannot be read: {error.strerror}") from error
                data = error
            yield data, file.label, file.id


def as_id(path: str) -> str:
    """Returns the path in POSIX form and composed; bytes that are no UTF-8 become escapes."""
    posix = path if os.sep == "/" else path.replace(os.sep, "/")
    if posix.isascii():  # the same object, where a million of them are held
        return posix
    return os.fsencode(walk.nfc(posix)).decode("utf-8", "backslashreplace")


@dataclasses.dataclass
class _Listing:
    """The images of one split, as their folders say, before any is read.

    Attributes:
      directory: of the split.
      split: as the user named it.
      classes: name of each class folder, composed, to the paths of its images, relative to the
        root; '' to the images that lie in no class folder.
      left_out: what is no image.
    """

    directory: pathlib.Path
    split: str
    classes: dict[str, list[str]]
    left_out: walk.LeftOut

    @property
    def loose(self) -> list[str]:
        """Images of no class."""
        return self.classes.get("", [])

    @property
    def names(self) -> list[str]:
        """The names of all class folders, in order."""
        return sorted(name for name in self.classes if name)


def _list(root: pathlib.Path, split: str, field: str) -> _Listing:
    """Lists a split.

    Raises:
      UserError: no such directory, or one that cannot be listed.
    """
    if os.path.isabs(split) or ".." in pathlib.PurePath(split).parts:
        raise UserError(f"a split is a directory in ROOT, got {split!r}; {_LAYOUT}", field=field)
    directory = root / split
    if not os.path.isdir(directory):
        at_fault = field if split and root.is_dir() else "data.data_dir"
        raise UserError(f"there is no directory {directory}; {_LAYOUT}", field=at_fault)
    left_out = walk.LeftOut()
    above = frozenset({walk.identity(root), walk.identity(directory)})
    # In this form paths begin with that of the root, also where it is '.'.
    start = os.path.join(root, os.path.normpath(split)) if split else str(root)
    prefix = len(os.path.join(root, ""))
    loose, folders = walk.contents(start, left_out)
    classes = {"": [path[prefix:] for path in loose]} if loose else {}
    for path in folders:
        images = classes.setdefault(as_id(os.path.basename(path)), [])
        images.extend(found[prefix:] for found in walk.images_below(path, left_out, above))
    return _Listing(directory, split, classes, left_out)


def _check_classes(listing: _Listing, labelled: bool) -> None:
    """Raises UserError unless a split that decides the classes can do so."""
    where, names, loose = listing.directory, listing.names, len(listing.loose)
    if not names:
        if loose and not labelled:
            return
        found = f"{loose:,} images that lie in none, and no folders" if loose else "no folders"
    elif len(names) == 1 and labelled:
        found = f"the one folder {names[0]!r}"
        if len(inner := walk.contents(str(where / names[0]), walk.LeftOut())[1]) > 1:
            found += (
                f", which holds {len(inner)} folders; if those are the classes, give "
                f"`data.data_dir={where / names[0]}`"
            )
    else:
        if empty := [name for name in names if not listing.classes[name]]:
            raise UserError(
                f"no images ({', '.join(sorted(kinds.endings()))}) in these class folders of "
                f"{where}: {first_of(empty)}; fill or remove them"
            )
        return
    raise UserError(
        f"{where} must hold a folder for each of >= 2 classes; found {found}. The commands "
        "extract and predict take it as it is"
    )


def _check_known(listing: _Listing, train: _Listing) -> None:
    """Raises UserError where a split has images of classes that train lacks."""
    there, known = listing.names, train.names
    if extra := [name for name in there if name not in known and listing.classes[name]]:
        text = f"{listing.split}/ has classes that {train.split}/ lacks: {first_of(extra)}"
        if missing := [name for name in known if name not in there]:
            text += f"; of the classes of {train.split}/ it lacks {first_of(missing)}"
        raise UserError(text)
    if known and not there and listing.loose:
        raise UserError(
            f"{listing.directory} must hold a folder for each class, as {train.directory} does; "
            f"found {len(listing.loose):,} images that lie in none. To hold out a part of "
            f"{train.split}/ for testing instead, give `data.data_dir={train.directory}`"
        )
    if not any(listing.classes.get(name) for name in known or [""]):
        raise UserError(f"no images of {train.split}/'s classes are in {listing.directory}")


def _open(
    root: pathlib.Path,
    listings: Mapping[str, _Listing],
    *,
    classes: Sequence[str],
    skip_corrupt: bool,
    group_pattern: str,
) -> dict[str, FolderSource]:
    """Returns the sources of listed splits; each file's content is hashed, or known from before.

    Args:
      root: the data set's directory.
      listings: of each part.
      classes: names in the order of the labels; other folders are ignored. Empty where images have
        no labels.
      skip_corrupt: leave out files that cannot be read.
      group_pattern: see `open_splits`.

    Raises:
      UserError: a file that cannot be read, or a path in which the pattern finds nothing.
    """
    chosen: dict[str, list[str]] = {part: [] for part in listings}
    labels: dict[str, list[int]] = {part: [] for part in listings}
    for part, listing in listings.items():
        for label, name in enumerate(classes or [""]):
            images = listing.classes.get(name, ())
            chosen[part] += images
            labels[part] += itertools.repeat(label, len(images))
    paths = list(itertools.chain(*chosen.values()))
    hashed = content.hash_files(root, paths)
    if unreadable := [(path, of.error) for path, of in zip(paths, hashed) if of.error]:
        first = f"{root / unreadable[0][0]} cannot be read: {unreadable[0][1]}"
        more = f", nor can {len(unreadable) - 1:,} other files" if unreadable[1:] else ""
        if not skip_corrupt:
            raise UserError(
                f"{first}{more}; repair or remove such files, or leave them out with "
                "`data.skip_corrupt=True`"
            )
        _log.warning("%s%s; left out", first, more)
    ids = list(map(as_id, paths))
    _check_ids(root, ids, paths)
    groups = grouping.by_pattern(ids, group_pattern) if group_pattern else [""] * len(paths)
    rows = zip(ids, paths, itertools.chain(*labels.values()), hashed, groups)
    opened = {}
    for part, listing in listings.items():
        files = [
            ImageFile(id_, path, label, of.size, of.digest, group)
            for id_, path, label, of, group in itertools.islice(rows, len(chosen[part]))
        ]
        opened[part] = FolderSource(
            root, files, classes=classes, split=listing.split, skip_corrupt=skip_corrupt
        )
        _describe(opened[part], listing)
    return opened


def _check_ids(root: pathlib.Path, ids: Sequence[str], paths: Sequence[str]) -> None:
    """Raises UserError where two files have one id."""
    if len(set(ids)) == len(set(paths)):
        return
    first_of: dict[str, str] = {}
    for name, path in zip(ids, paths):
        if (first := first_of.setdefault(name, path)) != path:
            raise UserError(
                f"two files in {root} have one name once accents are composed, {name}: {first!a} "
                f"and {path!a}; rename one"
            )


def _describe(source: FolderSource, listing: _Listing) -> None:
    """Logs what a split holds, and what of it is left out or looks wrong."""
    left_out = str(listing.left_out)
    count = len(source.classes)
    _log.info(
        "%s: %d images %s%s",
        listing.directory, len(source),
        {0: "without classes", 1: "of 1 class"}.get(count, f"of {count} classes"),
        f"; left out: {left_out}" if left_out else "",
    )  # fmt: skip
    if warning := listing.left_out.warning():
        source.warn(warning)
    if source.classes and listing.loose:
        source.warn(
            f"{len(listing.loose):,} images beside the class folders of {listing.directory} are of "
            "no class and left out"
        )
    content.warn_of_several_classes(source)


def _root(root: str) -> pathlib.Path:
    if not root:
        raise UserError(f"name the folder of images; {_LAYOUT}", field="data.data_dir")
    return pathlib.Path(os.path.expanduser(root))


def open_folder(
    root: str, split: str, *, skip_corrupt: bool = False, group_pattern: str = "", field: str = ""
) -> FolderSource:
    """Returns all images below root/<split>/<class>, classes in alphabetical order.

    Args:
      root: the data set's directory.
      split: a directory in it, or '' where the class folders lie in root itself.
      skip_corrupt: leave out images that cannot be decoded.
      group_pattern: see `open_splits`.
      field: the config's field that names the split, for errors.

    Raises:
      UserError: no such directory, or no class folder with an image.
    """
    base = _root(root)
    listing = _list(base, split, field)
    classes = [name for name in listing.names if listing.classes[name]]
    if not classes:
        raise UserError(f"{listing.directory} has no class folder with an image; {_LAYOUT}")
    return _open(
        base,
        {"": listing},
        classes=classes,
        skip_corrupt=skip_corrupt,
        group_pattern=group_pattern,
    )[""]


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Within it, Python does not look for circles of objects to remove.

    A million new tuples make it look again and again, in a quarter of the time that opening a
    large folder takes; and they are in no circle.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collector_paused()
def open_splits(
    root: str, wanted: Wanted, *, skip_corrupt: bool = False, group_pattern: str = ""
) -> dict[str, FolderSource]:
    """Returns the sources of a folder under 'train', 'test' and, where there is one, 'val'.

    Train decides the classes. Without a test directory, a stratified share of the training images
    becomes the test split.

    Args:
      root: the data set's directory.
      wanted: names of directories. Without that of train, the classes lie in root itself; val is
        val/, validation/ or valid/ where it has no name. Where no labels are needed, one class
        or none is enough, and there is no test split if none can be held out.
      skip_corrupt: leave out images that cannot be decoded.
      group_pattern: what it finds in an image's path, relative to root, names the image's group;
        see `tl.data.grouping.by_pattern`. '' for no groups.

    Raises:
      UserError: a directory that was named is not there, train has too few classes, another split
        has a class that train lacks, or the share or seed is needed and cannot be used.
    """
    base, val = _root(root), wanted.val

    def is_there(name: str) -> bool:
        return bool(name) and os.path.isdir(base / name)

    if val is None:
        val = next((n for n in VAL_NAMES if n != wanted.test and is_there(n)), None)
    if is_there(wanted.train):
        names = {"train": wanted.train}
        if is_there(wanted.test) or wanted.test != "test":  # a name that somebody chose
            names["test"] = wanted.test
        if val is not None:
            names["val"] = val
    else:
        _check_one_level(base, wanted.train, val, wanted.test)
        names = {"train": ""}
    listings = {part: _list(base, name, f"data.{part}") for part, name in names.items()}
    _check_classes(listings["train"], wanted.labelled)
    for part in ("val", "test"):
        if part in listings:
            _check_known(listings[part], listings["train"])
    opened = _open(
        base,
        listings,
        classes=listings["train"].names,
        skip_corrupt=skip_corrupt,
        group_pattern=group_pattern,
    )
    division.warn_of_absent_classes(opened)
    return division.with_test(opened, wanted, lambda name: f"{name}/")


def _check_one_level(base: pathlib.Path, train: str, val: str | None, test: str) -> None:
    """Refuses a root whose folders are splits by other names: they would be taken for classes."""
    folders: list[str] = []
    if base.is_dir():
        _, paths = walk.contents(str(base), walk.LeftOut())
        folders = [os.path.basename(path) for path in paths]
    found = [n for n in folders if n.lower() in _SPLIT_NAMES or n in (val, test)]
    if found or train != "train" or val is not None:
        there = f"{', '.join(map(repr, found))} but " if found else ""
        raise UserError(
            f"{base} has {there}no {train!r}; {_LAYOUT}. Directories of other names are given with "
            "`data.train`, `data.val` and `data.test`"
        )
