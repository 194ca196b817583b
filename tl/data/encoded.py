"""The base of all sources of encoded images: it decodes, and treats corrupt images."""

import abc
import copy
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Int32

from tl.data import transforms
from tl.errors import UserError
from tl.weights.spec import Preprocessing

_LARGEST_SHARED_SIDE = 64  # px; larger images would make a batch in host memory large

_log = logging.getLogger(__name__)


class Example(TypedDict):
    """One row: its image, or what a network makes of it; its label, -1 if left out; its id."""

    image: np.ndarray
    label: int
    id: str


def shared_small_shape(shape: tuple[int | None, ...]) -> tuple[int, int, int] | None:
    """Returns (H, W, 3) where all images share one small shape, else None.

    Args:
      shape: [..., H, W, C] of the images; None where it varies.
    """
    height, width = shape[-3:-1]
    if height and width and max(height, width) <= _LARGEST_SHARED_SIDE:
        return (height, width, 3)
    return None


class Warned:
    """What a source has to say of its images.

    Attributes:
      name: of the data set.
      warnings: what to know of these images before trusting a number that rests on them.
    """

    def __init__(self, name: str):
        self.name = name
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Logs a warning and keeps it for the run's result."""
        _log.warning("%s: %s", self.name, text)
        self.warnings.append(text)


class EncodedSource(Warned, abc.ABC):
    """One split of encoded images with random access; a subclass reads the bytes.

    Attributes:
      name: of the data set.
      version: changes whenever the data do.
      split: as the user named it.
      classes: names, in the order of the labels.
      image_shape: (H, W, 3) where all images share one small shape, else None.
      id_bytes: no id is longer in UTF-8.
      skip_corrupt: leave out images that cannot be decoded, which are an error otherwise. Such a
        row stays, with label -1 and pixels 0.
      warnings: see `Warned`.
    """

    def __init__(
        self,
        *,
        name: str,
        version: str,
        split: str,
        classes: Sequence[str],
        image_shape: tuple[int, int, int] | None,
        id_bytes: int,
        skip_corrupt: bool,
    ):
        super().__init__(name)
        self.version = version
        self.split = split
        self.classes = tuple(classes)
        self.image_shape = image_shape
        self.id_bytes = id_bytes
        self.skip_corrupt = skip_corrupt
        self._seen_with: Preprocessing | None = None

    def drafted(self, p: Preprocessing) -> "EncodedSource":
        """Returns the same source, whose images may come smaller: see `tl.data.sources.drafted`."""
        other = copy.copy(self)
        other._seen_with = p
        return other

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the labels, int32 [N], without decoding an image."""

    @abc.abstractmethod
    def _read(self, rows: Sequence[int]) -> Iterable[tuple[bytes | OSError, int, str]]:
        """Yields (encoded image or why it cannot be read, label, id) of each row."""

    def encoded(self, rows: Sequence[int]) -> Iterable[tuple[bytes | OSError, int, str]]:
        """Yields (encoded image or why it cannot be read, label, id) of each row, none decoded."""
        return self._read(rows)

    def examples(self, rows: Sequence[int]) -> Iterator[Example]:
        """Yields the examples of some rows, decoded one by one.

        Raises:
          UserError: an image that cannot be decoded, unless skip_corrupt.
        """
        for data, label, id_ in self._read(rows):
            try:
                if isinstance(data, OSError):
                    raise transforms.UndecodableImage(f"it cannot be read: {data.strerror}")
                image = transforms.decode(data, self._seen_with)
            except transforms.UndecodableImage as error:
                if not self.skip_corrupt:
                    raise UserError(
                        f"{self.name}: the image {id_} cannot be decoded ({error}); repair or "
                        "remove it, or leave such images out with `data.skip_corrupt=True`"
                    ) from error
                _log.warning("%s: left out %s, which cannot be decoded (%s)", self.name, id_, error)
                image, label = np.zeros(self.image_shape or (1, 1, 3), np.uint8), -1
            yield {"image": image, "label": label, "id": id_}

    def __getitem__(self, row: int) -> Example:
        return next(self.examples([row]))
