"""The embedded data set: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels."""

import functools

import numpy as np
from jaxtyping import Float, Int, Int32

from tl.data import splits
from tl.data.encoded import Example
from tl.errors import UserError, nearest

# Part of the data set's definition: the run's seed does not move an image from test to train.
_TRAIN_PER_CLASS = 100
_SPLIT_SEED = 0


@functools.cache  # a study opens it for every run, and its file is text
def _all() -> tuple[Float[np.ndarray, "n 8 8"], Int32[np.ndarray, " n"]]:
    """Returns all images, in grey levels from 0 to 16, and their labels."""
    from sklearn import datasets  # a second to import, and only this data set needs it

    bunch = datasets.load_digits()
    return bunch.images, bunch.target.astype(np.int32)


class Digits:
    """One split of the digits, in memory; the fields are those of `tl.data.sources.Source`."""

    name = "digits"
    version = "1.0.0"
    classes = tuple("0123456789")
    image_shape = (8, 8, 3)
    id_bytes = len("digits/0000")

    def __init__(self, split: str, *, field: str = ""):
        """Opens a split.

        Args:
          split: 'train' (100 a class), 'test' (the other 797) or 'all'.
          field: the config's field that names the split, for errors.

        Raises:
          UserError: another split.
        """
        images, labels = _all()
        train = splits.few_shot(labels, _TRAIN_PER_CLASS, _SPLIT_SEED)
        rows = {
            "train": train,
            "test": np.setdiff1d(np.arange(len(labels)), train),
            "all": np.arange(len(labels)),
        }
        if split not in rows:
            raise UserError(f"digits has no split {split!r}{nearest(split, rows)}", field=field)
        self.split = split
        self._rows = rows[split]
        self._labels = labels[self._rows]
        grey = np.round(images[self._rows] * (255 / 16)).astype(np.uint8)
        self._images = np.repeat(grey[..., None], 3, axis=-1)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Example:
        return {
            "image": self._images[row],
            "label": int(self._labels[row]),
            "id": f"digits/{self._rows[row]:04d}",
        }

    def places(self) -> Int[np.ndarray, " n"]:
        """Returns the number of each row's image in the data set."""
        return self._rows

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the labels."""
        return self._labels.copy()
