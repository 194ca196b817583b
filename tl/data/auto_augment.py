"""RandAugment and TrivialAugment: operations drawn at random from one table."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

# What appears where an image has moved away: the grey of RandAugment's own code (torchvision's
# default is black).
FILL = (128, 128, 128)

LEVELS = 30  # both papers cut a range into 31 magnitudes, 0 .. LEVELS


@dataclasses.dataclass(frozen=True)
class Operation:
    """What is done to an image, and how strongly at most.

    Attributes:
      apply: (picture, strength) -> picture of the same size.
      narrow: largest strength of RandAugment; where `per_side`, as a share of the side.
      wide: largest strength of TrivialAugment.
      signed: whether the strength is negative half of the time.
      per_side: see `narrow`.
    """

    apply: Callable[[Image.Image, float], Image.Image]
    narrow: float = 0.0
    wide: float = 0.0
    signed: bool = False
    per_side: bool = False


def _affine(picture: Image.Image, *inverse: float) -> Image.Image:
    return picture.transform(
        picture.size, Image.Transform.AFFINE, inverse, Image.Resampling.NEAREST, fillcolor=FILL
    )


def _shear_x(picture: Image.Image, slope: float) -> Image.Image:
    return _affine(picture, 1, slope, 0, 0, 1, 0)


def _shear_y(picture: Image.Image, slope: float) -> Image.Image:
    return _affine(picture, 1, 0, 0, slope, 1, 0)


def _translate_x(picture: Image.Image, pixels: float) -> Image.Image:
    return _affine(picture, 1, 0, -int(pixels), 0, 1, 0)


def _translate_y(picture: Image.Image, pixels: float) -> Image.Image:
    return _affine(picture, 1, 0, 0, 0, 1, -int(pixels))


def _rotate(picture: Image.Image, degrees: float) -> Image.Image:
    return picture.rotate(degrees, Image.Resampling.NEAREST, fillcolor=FILL)


def _posterize(picture: Image.Image, bits: float) -> Image.Image:
    return ImageOps.posterize(picture, 8 - round(bits))


def _solarize(picture: Image.Image, grey_levels: float) -> Image.Image:
    # Grey levels are whole: those below a threshold are those below its ceiling.
    return ImageOps.solarize(picture, math.ceil(255 - grey_levels))


def _enhance(enhancer: type) -> Operation:
    def apply(picture: Image.Image, change: float) -> Image.Image:
        return enhancer(picture).enhance(1 + change)

    return Operation(apply, 0.9, 0.99, signed=True)


# The 14 operations, ranges and signs of torchvision's `RandAugment` and `TrivialAugmentWide`.
OPERATIONS = {
    "identity": Operation(lambda picture, _: picture),
    "shear_x": Operation(_shear_x, 0.3, 0.99, signed=True),
    "shear_y": Operation(_shear_y, 0.3, 0.99, signed=True),
    "translate_x": Operation(_translate_x, 150 / 331, 32, signed=True, per_side=True),
    "translate_y": Operation(_translate_y, 150 / 331, 32, signed=True, per_side=True),
    "rotate": Operation(_rotate, 30, 135, signed=True),
    "brightness": _enhance(ImageEnhance.Brightness),
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "posterize": Operation(_posterize, 4, 6),
    "solarize": Operation(_solarize, 255, 255),
    "autocontrast": Operation(lambda picture, _: ImageOps.autocontrast(picture)),
    "equalize": Operation(lambda picture, _: ImageOps.equalize(picture)),
}


def _draw(rng: np.random.Generator) -> tuple[Operation, int]:
    """Returns an operation and the sign of its strength."""
    operation = list(OPERATIONS.values())[rng.integers(len(OPERATIONS))]
    return operation, -1 if operation.signed and rng.integers(2) else 1


def rand_augment(
    picture: Image.Image, rng: np.random.Generator, num_ops: int, magnitude: float
) -> Image.Image:
    """Returns a picture after `num_ops` operations drawn from all, every one as strong.

    Source: Cubuk et al. 2019, arXiv:1909.13719, as torchvision has it.

    Args:
      picture: RGB, square.
      rng: of every draw.
      num_ops: >= 0.
      magnitude: in [0, LEVELS].
    """
    for _ in range(num_ops):
        operation, sign = _draw(rng)
        largest = operation.narrow * (picture.width if operation.per_side else 1)
        picture = operation.apply(picture, sign * largest * magnitude / LEVELS)
    return picture


def trivial_augment(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Returns a picture after one operation drawn from all, of a magnitude drawn from all.

    Source: Mueller and Hutter 2021, arXiv:2103.10158, its wide ranges, as torchvision has it.

    Args:
      picture: RGB.
      rng: of every draw.
    """
    operation, sign = _draw(rng)
    magnitude = rng.integers(LEVELS, endpoint=True)
    return operation.apply(picture, sign * operation.wide * magnitude / LEVELS)
