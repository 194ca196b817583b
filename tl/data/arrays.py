"""Images in NumPy files: an .npz, or .npy files in a folder, which are not read into memory."""

import functools
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Int64, Shaped

from tl.data import content, division, grouping, kinds, tables
from tl.data.encoded import Example, Warned, shared_small_shape
from tl.data.tables import Columns
from tl.errors import UserError, nearest
from tl.files import NUMPY_ERRORS, opened_npz

# Names of arrays, alone or with a split before or behind: 'labels', 'y_train', 'test_images'.
_USUAL = {
    "image": ("images", "image", "imgs", "img", "x", "data"),
    "label": ("labels", "label", "y", "targets", "target"),
    "group": ("groups", "group", "patients", "patient"),
}
ENDINGS = (".npz", ".npy")
_LAYOUT = (
    "expected arrays such as images and labels, x_train, y_train, x_test and y_test, or "
    "train_images, train_labels, val_images and so on"
)
_ROWS_AT_ONCE = 4096  # whose values are checked

_log = logging.getLogger(__name__)


class _Split(NamedTuple):
    """Names of the arrays of one split; '' for no groups."""

    images: str
    labels: str
    groups: str


def is_folder_of_arrays(path: Path) -> bool:
    """Returns whether a folder has .npy files, but neither images nor folders, such as classes."""
    return any(path.glob("*.npy")) and not any(
        entry.is_dir() or (entry.is_file() and kinds.is_image(str(entry)))
        for entry in path.iterdir()
        if entry.name[0] != "."
    )


class ArraySource(Warned):
    """One split of images in an array; the fields are those of `tl.data.sources.Source`.

    Its version depends on the pixels and labels, not on where they lie.
    """

    # Stands for the file's name in what must be the same for features and runs to go on.
    identity_name = "arrays"

    def __init__(
        self,
        images: Shaped[np.ndarray, " ..."],
        labels: Int32[np.ndarray, " rows"],
        *,
        rows: Int[np.ndarray, " rows"],
        digests: Sequence[str],
        group_names: grouping.Names | None,
        name: str,
        part: str,
        split: str,
        classes: Sequence[str],
    ):
        """Takes rows of an array.

        Args:
          images: integers in 0..255, [N, H, W] or [N, H, W, C] with C of 1 or 3.
          labels: of the rows of this split, as are `digests` and `group_names`.
          rows: numbers of these rows in `images`.
          digests: hash of each image's pixels.
          group_names: str; None without groups.
          name: of the data set.
          part: name of the split that the whole array is, for ids.
          split: as the user named it.
          classes: names, in the order of the labels.
        """
        super().__init__(name)
        self._images, self._labels, self._rows = images, labels, rows
        self._digests, self._group_names = list(digests), group_names
        self._part = part
        self.split, self.classes = split, tuple(classes)
        height, width = images.shape[1:3]
        self.image_shape = shared_small_shape((height, width, 3))
        version = hashlib.sha256(f"{height} {width} {images.shape[3:]}\n".encode())
        for digest, label in zip(self._digests, labels.tolist(), strict=True):
            version.update(f"{digest} {label}\n".encode())
        self.version = version.hexdigest()[:16]
        self.id_bytes = max(len(id_.encode()) for id_ in self.ids())

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Example:
        image = np.asarray(self._images[self._rows[row]]).astype(np.uint8)
        if image.ndim == 2:
            image = image[:, :, None]
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        return {
            "image": image,
            "label": int(self._labels[row]),
            "id": division.row_id(self._part, self._rows[row]),
        }

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the labels, int32 [N]."""
        return self._labels.copy()

    def ids(self) -> list[str]:
        """Returns the id of each row: its split and its number there."""
        return [division.row_id(self._part, row) for row in self._rows.tolist()]

    def places(self) -> Shaped[np.ndarray, " n"]:
        """Returns the id of each row, which no other image has."""
        return np.array(self.ids())

    def contents(self) -> content.Hashes:
        """Returns a text for each row, equal where images have the same pixels."""
        return np.array(self._digests)

    def groups(self) -> Int64[np.ndarray, " n"] | None:
        """Returns a number for each row, equal for equal images and within named groups."""
        numbers = grouping.numbers(self._group_names)
        return grouping.joined(numbers, content.copies(self.contents()))

    def group_names(self) -> grouping.Names | None:
        """Returns the name of each row's group, its id where it has none; None without groups."""
        return self._group_names

    def subset(self, rows: Int[np.ndarray, " rows"], split: str) -> "ArraySource":
        """Returns a source of some of the rows."""
        return ArraySource(
            self._images,
            self._labels[rows],
            rows=self._rows[rows],
            digests=[self._digests[row] for row in rows],
            group_names=None if self._group_names is None else self._group_names[rows],
            name=self.name,
            part=self._part,
            split=split,
            classes=self.classes,
        )


class Arrays:
    """Arrays of images and labels in files. See `tl.data.division.DataSet`.

    Attributes:
      where: path of the .npz file or of the folder of .npy files.
      name: the file's or folder's name, without the ending.
    """

    def __init__(self, path: Path, columns: Columns):
        """Finds the arrays, but reads none.

        Args:
          path: of an .npz file; of a folder with .npy files; or of one of these files.
          columns: names of arrays, without a split's name before or behind.

        Raises:
          UserError: there is no such file, or it has no array of images with labels.
        """
        if path.suffix.lower() == ".npy":
            path = path.parent
        self.where, self.name = str(path), path.resolve().stem
        self._arrays = _found(path)
        self._splits = _splits(self.where, list(self._arrays), columns)

    def splits(self) -> Mapping[str, None]:
        """Returns the names of the splits; '' alone where the names of the arrays have none."""
        return dict.fromkeys(self._splits)

    def open(self, named: Mapping[str, str]) -> dict[str, ArraySource]:
        """Returns the sources of some splits. All their images are read once, to be hashed.

        Args:
          named: 'train', 'val' or 'test' to the split that it is. Train decides the classes.

        Raises:
          UserError: arrays that cannot be used.
        """
        read = {part: self._read(self._splits[split]) for part, split in named.items()}
        labels = {part: names for part, (_, names, _) in read.items()}
        classes = division.class_names(
            labels, lambda part, row: f"{self.where}: {self._splits[named[part]].labels}[{row}]"
        )
        opened = {}
        for part, (images, names, groups) in read.items():
            source = ArraySource(
                images,
                division.label_numbers(names, classes),
                rows=np.arange(len(images)),
                # As bytes of pixels, so that copies are found whatever the integers' type.
                digests=[content.digest(image.astype(np.uint8).tobytes()) for image in images],
                group_names=None if groups is None else division.group_names(groups, named[part]),
                name=self.name,
                part=named[part],
                split=named[part],
                classes=classes,
            )
            content.warn_of_several_classes(source)
            _log.info("%s: %d images of %d classes", self.where, len(source), len(classes))
            opened[part] = source
        return opened

    def _read(self, split: _Split) -> tuple[np.ndarray, list[str], list[str] | None]:
        """Returns the images, the names of the labels and those of the groups.

        Raises:
          UserError: arrays that cannot be used.
        """
        images = _loaded(self.where, split.images, self._arrays)
        _check_images(images, f"{self.where}: {split.images}")
        others = []
        for key in (split.labels, split.groups):
            if not key:
                continue
            texts = _texts(_loaded(self.where, key, self._arrays), f"{self.where}: {key}")
            if len(texts) != len(images):
                raise UserError(
                    f"{self.where}: {split.images} has {len(images):,} images, but {key} "
                    f"{len(texts):,} values"
                )
            others.append(texts)
        if "" in others[0]:
            row = others[0].index("")
            raise UserError(f"{self.where}: {split.labels}[{row}] is empty; expected a label")
        return images, others[0], others[1] if split.groups else None


def _found(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Returns, for the name of each array, a function that reads it.

    Raises:
      UserError: there are none, or they cannot be read.
    """
    found: dict[str, Callable[[], np.ndarray]]
    if path.is_dir():
        found = {
            file.stem: functools.partial(np.load, file, mmap_mode="r", allow_pickle=False)
            for file in sorted(path.glob("*.npy"))
        }
    else:
        try:
            with opened_npz(path) as opened:
                found = {name: functools.partial(_of_npz, path, name) for name in opened}
        except NUMPY_ERRORS as error:
            raise _unreadable(path, error) from error
    if not found:
        raise UserError(f"{path} has no arrays; {_LAYOUT}", field="data.data_dir")
    return found


def _of_npz(path: Path, name: str) -> np.ndarray:
    with opened_npz(path) as opened:
        return opened[name]


def _unreadable(path: Path | str, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read as NumPy's arrays: {error}")


def _loaded(
    where: str, key: str, arrays: Mapping[str, Callable[[], np.ndarray]]
) -> Shaped[np.ndarray, "..."]:
    """Returns an array.

    Raises:
      UserError: it cannot be read, or holds Python objects, which may run code when they are read.
    """
    try:
        return arrays[key]()
    except NUMPY_ERRORS as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise UserError(
                f"{where}: {key} holds Python objects, which are not read, since they can run "
                "code; save one array of numbers or text: np.stack(list_of_images), "
                "np.array(list_of_names)"
            ) from error
        raise _unreadable(where, error) from error


def _splits(where: str, keys: Sequence[str], columns: Columns) -> dict[str, _Split]:
    """Returns the names of the arrays of each split.

    Raises:
      UserError: there are no images, none of their labels, or two arrays of one kind.
    """
    by_split: dict[str, dict[str, str]] = {}
    unused = []
    for key in keys:
        kind, split = _role(key, columns)
        if not kind:
            unused.append(key)
            continue
        of_split = by_split.setdefault(split, {})
        if kind in of_split:
            raise UserError(f"{where}: both {of_split[kind]} and {key} are {kind}s; rename one")
        of_split[kind] = key
    if unused:
        _log.info("%s: these arrays are not used: %s", where, ", ".join(unused))
    found = {}
    for split, of_split in by_split.items():
        if "image" in of_split and "label" in of_split:
            found[split] = _Split(of_split["image"], of_split["label"], of_split.get("group", ""))
        elif "image" in of_split:
            _log.warning("%s: %s has no labels and is not used", where, of_split["image"])
    if not found:
        given = [name for name in (columns.image, columns.label) if name]
        hint = nearest(given[0], keys) if given else f"; there are {', '.join(keys)}"
        raise UserError(f"{where} has no images with labels; {_LAYOUT}{hint}")
    return found


def _role(key: str, columns: Columns) -> tuple[str, str]:
    """Returns what an array holds, '' for nothing known, and its split.

    >>> _role("x_train", Columns()), _role("test_labels", Columns()), _role("images", Columns())
    (('image', 'train'), ('label', 'test'), ('image', ''))
    """
    given = {"image": columns.image, "label": columns.label, "group": columns.group}
    for kind, usual in _USUAL.items():
        for name in (given[kind],) if given[kind] else usual:
            lower, name = key.lower(), name.lower()
            if lower == name:
                return kind, ""
            if lower.endswith(f"_{name}"):
                return kind, key[: -len(name) - 1]
            if lower.startswith(f"{name}_"):
                return kind, key[len(name) + 1 :]
    return "", ""


def _check_images(images: np.ndarray, where: str) -> None:
    """Raises UserError unless an array holds images that `ArraySource` takes."""
    found = f"{where} is {images.dtype} {list(images.shape)}"
    expected = "; expected uint8 [N, H, W], [N, H, W, 1] or [N, H, W, 3]"
    if not images.size:
        raise UserError(f"{found}{expected}")
    if images.ndim == 4 and images.shape[3] not in (1, 3):
        convert = ""
        if images.shape[1] in (1, 3):
            convert = ": images.transpose(0, 2, 3, 1) puts the channels last"
        elif images.shape[3] == 4:
            convert = ": images[..., :3] leaves out the transparency"
        raise UserError(f"{found}{expected}{convert}")
    if images.ndim not in (3, 4):
        convert = ": images.reshape(-1, H, W) makes images of rows" if images.ndim == 2 else ""
        raise UserError(f"{found}{expected}{convert}")
    if images.dtype == np.uint8:
        return
    if images.dtype.kind not in "iuf":
        convert = ": images.astype(np.uint8) * 255" if images.dtype.kind == "b" else ""
        raise UserError(f"{found}{expected}{convert}")
    starts = range(0, len(images), _ROWS_AT_ONCE)
    low = min(images[at : at + _ROWS_AT_ONCE].min() for at in starts)
    high = max(images[at : at + _ROWS_AT_ONCE].max() for at in starts)
    if images.dtype.kind != "f" and low >= 0 and high <= 255:
        return
    if images.dtype.kind != "f":
        convert = "(images // 257).astype(np.uint8) makes 8 bits of 16"
    elif low >= 0 and high <= 1:
        convert = "np.rint(images * 255).astype(np.uint8)"
    elif low >= 0 and high <= 255:
        convert = "np.rint(images).astype(np.uint8)"
    else:
        convert = "undo the normalisation, then np.rint(images).astype(np.uint8)"
    raise UserError(f"{found} with values from {low:g} to {high:g}{expected}, 0 to 255: {convert}")


def _texts(values: np.ndarray, where: str) -> list[str]:
    """Returns labels or groups as text.

    Raises:
      UserError: they are no integers or text, or several for each image.
    """
    found = f"{where} is {values.dtype} {list(values.shape)}"
    expected = "; expected [N], an integer or a text for each image"
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        one_hot = values.ndim == 2 and values.dtype.kind in "biuf" and bool(
            np.all(np.isin(values, (0, 1))) and np.all(values.sum(axis=1) == 1)
        )  # fmt: skip
        raise UserError(f"{found}{expected}" + (": labels.argmax(axis=1)" if one_hot else ""))
    if values.dtype.kind not in "biuUS":
        raise UserError(f"{found}{expected}: labels.astype(int), if they are whole numbers")
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    elif values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    distinct, number = np.unique(values, return_inverse=True)
    names = [tables.text(value, where) for value in distinct.tolist()]
    return [names[n] for n in number.tolist()]
