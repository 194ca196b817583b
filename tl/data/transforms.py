"""Preprocessing: bytes -> RGB -> the square that a network was trained on, on host or device."""

import contextlib
import dataclasses
import functools
import io
import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Real, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from tl.data import kinds, resample
from tl.errors import UserError, nearest
from tl.weights.spec import Preprocessing

GEOMETRIES = ("resize_crop", "crop_resize", "whole")
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# A drafted image is at least so many times as long as what it is resized to, as in Pillow's own
# `Image.thumbnail`. With 1 photographs of 12 megapixels take a quarter less time, and their
# preprocessed pixels move four times as far; see docs/measurements.md.
DRAFT_GAP = 2


@runtime_checkable
class Prepare(Protocol):
    """Images as they come to the device -> the network's input."""

    def __hash__(self) -> int:
        """Equal functions share what is compiled."""

    def __call__(
        self, images: UInt8[Array, "n h w 3"], p: Preprocessing
    ) -> Float[Array, "n {p.size} {p.size} 3"]:
        """Returns the images as the network takes them, normalised."""


class UndecodableImage(ValueError):
    """Bytes that are no image Pillow can read, or an image too large to be one in good faith."""


def decode(data: bytes, p: Preprocessing | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Returns an encoded image as a viewer would show it: upright, in colour, on white.

    EXIF orientation is applied, transparent pixels lie on white, 16-bit greys keep their high
    byte (as Pillow does for 16-bit colours), and of an animation the first frame counts.

    Args:
      data: a file of one of the formats in `tl.data.kinds`; no other is opened.
      p: with `p.draft` a JPEG comes at the smallest of 1, 1/2, 1/4 and 1/8 of its size that is
        still DRAFT_GAP times what `host_transform` resizes it to; other formats, and small
        images, come whole. None for the whole image.

    Returns:
      RGB.

    Raises:
      UndecodableImage: the bytes are truncated, malformed, empty or no image.
    """
    try:
        with Image.open(io.BytesIO(data), formats=kinds.formats()) as opened:
            if p is not None and p.draft:
                _draft(opened, p)
            opened.load()
            with contextlib.suppress(Exception):  # malformed EXIF does not make an image unreadable
                ImageOps.exif_transpose(opened, in_place=True)
            return as_rgb(opened)
    except UnidentifiedImageError as error:  # whose own text has an address in memory
        names = ", ".join(kinds.formats())
        raise UndecodableImage(f"no image of a type that is read: {names}") from error
    except UndecodableImage:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on malformed bytes
        raise UndecodableImage(f"{type(error).__name__}: {error}") from error


def as_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a Pillow image in colour: transparent pixels on white, of 16-bit greys the high byte.

    Args:
      image: of any mode; its EXIF orientation has been applied.

    Raises:
      UndecodableImage: pixels are floating-point numbers, of which black and white are not known.
    """
    if image.mode == "F":
        raise UndecodableImage(
            "its pixels are floating-point numbers; convert them to 8 or 16 bits"
        )
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image).astype(np.int32) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _draft(image: Image.Image, p: Preprocessing) -> None:
    """Asks an image's decoder for fewer pixels: libjpeg leaves out part of each block's cosines.

    EXIF may turn the image later, which changes nothing here: both axes are treated alike.

    Args:
      image: opened, but not decoded.
      p: what the pixels are for.
    """
    for scale in (8, 4, 2):
        # libjpeg rounds up; that Pillow takes just this scale of the rounded-down size is tested.
        axes = _plan(-(-image.height // scale), -(-image.width // scale), p)
        if all(axis.length >= DRAFT_GAP * axis.resized for axis in axes):
            image.draft(None, (image.width // scale, image.height // scale))
            return


@dataclasses.dataclass(frozen=True)
class _Axis:
    """What becomes of one axis: [start, start + length) -> `resized` pixels -> from `offset` on."""

    start: int
    length: int
    resized: int
    offset: int


def resized_short(p: Preprocessing) -> int:
    """Returns the side in pixels that is cropped to `p.size`: the shorter one, after resizing."""
    # The hair's breadth makes a crop_pct written as 224/232 give 232 again, and never 231.
    return math.floor(p.size / p.crop_pct + 1e-6)


def _plan(height: int, width: int, p: Preprocessing) -> tuple[_Axis, _Axis]:
    """Returns the geometry of the rows and of the columns of one size of image.

    Sources: torchvision's `Resize` (the long side is truncated) and `CenterCrop` (halves round to
    even); timm's floor(size / crop_pct); EfficientNet's `preprocessing.py` for `crop_resize`.
    """
    short = min(height, width)
    return _axis(height, short, p), _axis(width, short, p)


def _axis(side: int, short: int, p: Preprocessing) -> _Axis:
    if p.geometry == "whole":
        return _Axis(0, side, p.size, 0)
    if p.geometry == "crop_resize":
        crop = max(1, int(p.crop_pct * short))
        return _Axis((side - crop + 1) // 2, crop, p.size, 0)
    resized = int(resized_short(p) * side / short)
    return _Axis(0, side, resized, round((resized - p.size) / 2.0))


def host_transform(
    image: UInt8[np.ndarray, "h w 3"], p: Preprocessing
) -> UInt8[np.ndarray, "{p.size} {p.size} 3"]:
    """Returns the square a network sees, resized by Pillow itself; not yet normalised.

    The two axes are resized by two calls, along the rows first: what one call does up to Pillow 12.
    From Pillow 13 on one call may take the columns first, which changes grey levels.

    Args:
      image: RGB, any size.
      p: the weight set's preprocessing.

    Returns:
      RGB.
    """
    rows, columns = _plan(image.shape[0], image.shape[1], p)
    image = image[rows.start :, columns.start :][: rows.length, : columns.length]
    picture = Image.fromarray(image)
    for size in ((columns.resized, rows.length), (columns.resized, rows.resized)):
        picture = picture.resize(size, INTERPOLATIONS[p.interpolation])
    left, top = columns.offset, rows.offset
    return np.asarray(picture.crop((left, top, left + p.size, top + p.size)))


def device_transform(
    images: UInt8[Array, "n h w 3"], p: Preprocessing, dtype: DTypeLike = jnp.float32
) -> Float[Array, "n {p.size} {p.size} 3"]:
    """Returns the network's input; to be called in a jitted function, with `p` static.

    The geometry gives the same grey levels as `host_transform`, whose results need `normalise`
    only.

    Args:
      images: RGB.
      p: the weight set's preprocessing.
      dtype: of the result; the arithmetic is in float32.

    Returns:
      (x - p.mean) / p.std in the order of p.channels.
    """
    rows, columns = _plan(images.shape[1], images.shape[2], p)
    images = images[:, rows.start :, columns.start :][:, : rows.length, : columns.length]
    x = images.astype(jnp.float32)
    for axis, line in ((2, columns), (1, rows)):  # as in host_transform
        if line.length != line.resized:
            matrix = resample.weights(line.length, line.resized, p.interpolation)
            x = resample.resample(x, matrix[:, line.offset : line.offset + p.size], axis)
        else:
            x = jax.lax.slice_in_dim(x, line.offset, line.offset + p.size, axis=axis)
    return normalise(x, p, dtype)


def normalise(
    images: Real[Array, "n h w 3"], p: Preprocessing, dtype: DTypeLike = jnp.float32
) -> Float[Array, "n h w 3"]:
    """Returns (x - p.mean) / p.std in the order of p.channels.

    Args:
      images: uint8 or float, RGB, 0..255.
      p: the weight set's preprocessing.
      dtype: of the result; the arithmetic is in float32.
    """
    x = images.astype(jnp.float32)
    if p.channels == "BGR":
        x = x[..., ::-1]
    mean, std = np.array(p.mean, np.float32), np.array(p.std, np.float32)
    return ((x - mean) / std).astype(dtype)


def host_and_device(
    image_shape: tuple[int, int, int] | None, p: Preprocessing
) -> tuple[Callable[[np.ndarray], np.ndarray] | None, Prepare]:
    """Returns the transform on the host, if any, and (images, p) -> input on the device.

    Images of one small size are resized on the device, so that only their own few bytes cross the
    bus; others come at the network's size. The network's input is the same.

    Args:
      image_shape: of a source (`tl.data.sources.Source`).
      p: the weight set's preprocessing.
    """
    if image_shape is None:
        return functools.partial(host_transform, p=p), normalise
    return None, device_transform


@dataclasses.dataclass(frozen=True)
class Overrides:
    """Preprocessing where it differs from what belongs to the weights; 0, '' and False keep theirs.

    Attributes:
      size: side in pixels, >= 1.
      crop_pct: in (0, 1].
      geometry: one of GEOMETRIES.
      interpolation: one of INTERPOLATIONS.
      draft: whether large JPEGs are decoded smaller, see `decode`.

    Raises:
      UserError: a value outside these.
    """

    size: int = 0
    crop_pct: float = 0.0
    geometry: str = ""
    interpolation: str = ""
    draft: bool = False

    def __post_init__(self) -> None:
        if self.size < 0:
            raise UserError(f"expected at least 1 pixel, got {self.size}", field="preprocess.size")
        if self.crop_pct and not 0.0 < self.crop_pct <= 1.0:
            raise UserError(
                f"expected a share in (0, 1], got {self.crop_pct}", field="preprocess.crop_pct"
            )
        for field, known in (("geometry", GEOMETRIES), ("interpolation", INTERPOLATIONS)):
            if (name := getattr(self, field)) and name not in known:
                raise UserError(
                    f"there is no {field} {name!r}{nearest(name, known)}",
                    field=f"preprocess.{field}",
                )

    def of(self, p: Preprocessing) -> Preprocessing:
        """Returns a weight set's preprocessing with what is given here in its place."""
        return dataclasses.replace(p, **{name: v for name, v in vars(self).items() if v})
