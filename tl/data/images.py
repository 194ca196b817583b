"""Images without labels as a source: files, Pillow images and arrays, of one size or of several."""

import copy
import logging
import os
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int32
from PIL import Image, ImageOps

from tl.data import kinds, transforms
from tl.data.encoded import Example
from tl.errors import UserError
from tl.weights.spec import Preprocessing

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray

_log = logging.getLogger(__name__)


class Images:
    """A source of images in memory or in files; an id is a file's path or the image's number.

    The label is 0, or -1 for an image that cannot be decoded, whose pixels are 0.

    Attributes:
      errors: row to what is wrong with its image, of the rows read so far.
    """

    name, version, split = "images", "", ""
    classes: tuple[str, ...] = ()

    def __init__(
        self,
        images: Sequence[ImageLike],
        *,
        image_shape: tuple[int, int, int] | None = None,
        skip_corrupt: bool = False,
    ):
        """Keeps the images; files are read when their rows are.

        Args:
          images: paths, Pillow images and arrays uint8 [H, W, 3] in RGB or [H, W] in grey.
          image_shape: that every image must have; None for any.
          skip_corrupt: whether an image that cannot be decoded is a row of `errors` rather than a
            UserError.
        """
        self.image_shape = image_shape
        self.skip_corrupt = skip_corrupt
        self.errors: dict[int, str] = {}
        self._images = images
        self._seen_with: Preprocessing | None = None

    def drafted(self, p: Preprocessing) -> "Images":
        """Returns the same source, which shares `errors`; files may come smaller.

        See `tl.data.sources.drafted`. Pillow images and arrays come as they are.
        """
        other = copy.copy(self)
        other._seen_with = p
        return other

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> Example:
        id_, label = self._id(row), 0
        try:
            image = _pixels(self._images[row], self._seen_with)
            if self.image_shape is not None and image.shape != self.image_shape:
                raise transforms.UndecodableImage(
                    f"expected an image of shape {self.image_shape}, got {image.shape}"
                )
        except transforms.UndecodableImage as error:
            if not self.skip_corrupt:
                raise UserError(f"the image {id_} cannot be used: {error}") from error
            self.errors[row] = str(error)
            image, label = np.zeros(self.image_shape or (1, 1, 3), np.uint8), -1
        return {"image": image, "label": label, "id": id_}

    def examples(self, rows: Sequence[int]) -> Iterator[Example]:
        """Yields the examples of some rows.

        Raises:
          UserError: an image that cannot be decoded, unless skip_corrupt.
        """
        return (self[row] for row in rows)

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns zeros, int32 [N]; corrupt images are not known here."""
        return np.zeros(len(self), np.int32)

    @property
    def id_bytes(self) -> int:
        """Length in UTF-8 that no id exceeds."""
        return max((len(self._id(row).encode()) for row in range(len(self))), default=0)

    def _id(self, row: int) -> str:
        image = self._images[row]
        if isinstance(image, str | os.PathLike):
            return os.fsencode(image).decode("utf-8", "backslashreplace")
        return str(row)


def _pixels(image: ImageLike, p: Preprocessing | None = None) -> np.ndarray:
    """Returns RGB, uint8 [H, W, 3].

    Args:
      image: see `Images`.
      p: of a file's decoding, see `transforms.decode`.

    Raises:
      UndecodableImage: a file that cannot be read or is no image.
      UserError: an array of another type or shape.
    """
    if isinstance(image, str | os.PathLike):
        try:
            data = kinds.read_bytes(image)
        except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
            raise transforms.UndecodableImage(
                getattr(error, "strerror", None) or str(error)
            ) from error
        return transforms.decode(data, p)
    if isinstance(image, Image.Image):
        try:
            found = transforms.as_rgb(ImageOps.exif_transpose(image))
        except transforms.UndecodableImage:
            raise
        except (OSError, ValueError) as error:  # it is decoded only now, or was closed
            raise transforms.UndecodableImage(f"{type(error).__name__}: {error}") from error
        if not found.size:
            raise transforms.UndecodableImage(f"it has no pixels: {image.width} x {image.height}")
        return found
    array = np.asarray(image)
    if array.dtype == np.uint8 and array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UserError(
            "expected an image as a path, a Pillow image or an array uint8 [H, W, 3] with values "
            f"0..255, got {array.dtype} {list(array.shape)}"
        )
    return array
