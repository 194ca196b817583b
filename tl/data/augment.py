"""Augmentation of one training image on the host: cropped, moved, flipped, coloured, erased."""

import dataclasses
import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance

from tl.data import auto_augment, transforms
from tl.errors import UserError, nearest
from tl.weights.spec import Preprocessing

CROPS = ("none", "resized", "random")
POLICIES = ("", "randaugment", "trivialaugment")

_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

# What random erasing takes (arXiv:1708.04896): share of the area, width over height.
_ERASED_SCALE = (0.02, 0.33)
_ERASED_RATIO = (0.3, 3.3)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may happen to an image, in this order; the defaults change nothing.

    Attributes:
      crop: `none`: the weights' own geometry; `resized`: Inception's crop of random size and
        aspect, resized (arXiv:1409.4842); `random`: the whole image squashed to a square of
        `resize` and randomly cropped (BiT, arXiv:1912.11370).
      scale: least and largest share of the area that `resized` keeps, in (0, 1].
      ratio: least and largest width over height of what `resized` keeps, > 0.
      resize: side in pixels for `random`; 0 is floor(size / crop_pct) of the weights.
      shift: largest translation along either axis, as a share of the side, in [0, 1]; the pixels
        of the edge are repeated.
      flip: probability that left and right change places.
      policy: '', `randaugment` or `trivialaugment`; see `tl.data.auto_augment`.
      num_ops: operations of randaugment, >= 1.
      magnitude: of randaugment, in [0, 30].
      jitter: brightness, contrast and saturation, factors in [max(0, 1 - v), 1 + v]; hue, a shift
        in [-v, v] of a full turn, v <= 0.5. They take turns in a random order.
      erase: probability that a rectangle is filled with the weights' mean colour.
    """

    crop: str = "none"
    scale: tuple[float, ...] = (0.08, 1.0)
    ratio: tuple[float, ...] = (0.75, 4 / 3)
    resize: int = 0
    shift: float = 0.0
    flip: float = 0.0
    policy: str = ""
    num_ops: int = 2
    magnitude: float = 9.0
    jitter: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    erase: float = 0.0

    def __post_init__(self) -> None:
        for field, names in (("crop", CROPS), ("policy", POLICIES)):
            name = getattr(self, field)
            if name not in names:
                text = f"there is no {field} {name!r}{nearest(name, names)}"
                raise UserError(text, field=f"augment.{field}")
        checks = {
            "scale": (
                len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1,
                "the least and the largest share of the area, in (0, 1]",
            ),
            "ratio": (
                len(self.ratio) == 2 and 0 < self.ratio[0] <= self.ratio[1] < math.inf,
                "the least and the largest width over height, above 0",
            ),
            "resize": (self.resize >= 0, "a side in pixels, or 0 for that of the weights"),
            "shift": (0 <= self.shift <= 1, "a share of the side, in [0, 1]"),
            "flip": (0 <= self.flip <= 1, "a probability, in [0, 1]"),
            "num_ops": (self.num_ops >= 1, "at least 1"),
            "magnitude": (0 <= self.magnitude <= auto_augment.LEVELS, "in [0, 30]"),
            "jitter": (
                len(self.jitter) == 4
                and all(0 <= v < math.inf for v in self.jitter)
                and self.jitter[3] <= 0.5,
                "brightness, contrast, saturation and hue, at least 0, and hue at most 0.5",
            ),
            "erase": (0 <= self.erase <= 1, "a probability, in [0, 1]"),
        }
        for field, (holds, expected) in checks.items():
            if not holds:
                text = f"expected {expected}; got {getattr(self, field)}"
                raise UserError(text, field=f"augment.{field}")

    @property
    def active(self) -> bool:
        """Whether an image may come out other than the weights' own geometry makes it."""
        chances = (self.shift, self.flip, *self.jitter, self.erase)
        return self.crop != "none" or self.policy != "" or any(chances)


def seen(a: Augmentation, p: Preprocessing) -> Preprocessing | None:
    """Returns what `augment` prepares an image with before anything else, for its decoding.

    None where it takes a part of unknown size: a `resized` crop may be a twelfth of the area, so
    that none of the pixels can be spared, and `draft` changes nothing.
    """
    if a.crop == "resized":
        return None
    if a.crop == "random":
        side = a.resize or transforms.resized_short(p)
        return dataclasses.replace(p, size=side, geometry="whole")
    return p


def augment(
    image: UInt8[np.ndarray, "h w 3"],
    rng: np.random.Generator,
    a: Augmentation,
    p: Preprocessing,
) -> UInt8[np.ndarray, "{p.size} {p.size} 3"]:
    """Returns the square a network is trained on; not yet normalised.

    Args:
      image: RGB, any size.
      rng: of every draw; the same state gives the same bytes.
      a: what may happen.
      p: the weight set's preprocessing.

    Returns:
      RGB.

    Raises:
      UserError: `a.resize` is smaller than `p.size`.
    """
    if a.crop == "resized":
        image = _resized_crop(image, rng, a, p)
    elif a.crop == "random":
        image = _random_crop(image, rng, a, p)
    else:
        image = transforms.host_transform(image, p)
    if a.shift:
        image = _shift(image, rng, a.shift)
    if a.flip and rng.random() < a.flip:
        image = image[:, ::-1]
    if a.policy or any(a.jitter):
        picture = Image.fromarray(image)
        if a.policy == "randaugment":
            picture = auto_augment.rand_augment(picture, rng, a.num_ops, a.magnitude)
        elif a.policy == "trivialaugment":
            picture = auto_augment.trivial_augment(picture, rng)
        image = np.asarray(_jitter(picture, rng, a.jitter))
    if a.erase and rng.random() < a.erase:
        image = _erase(image, rng, p)
    return np.ascontiguousarray(image)


def _whole(
    image: UInt8[np.ndarray, "h w 3"], side: int, p: Preprocessing
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """Returns the image squashed to side x side, with the interpolation of the weights."""
    return transforms.host_transform(image, dataclasses.replace(p, size=side, geometry="whole"))


def _rectangle(
    rng: np.random.Generator,
    height: int,
    width: int,
    scale: tuple[float, ...],
    ratio: tuple[float, ...],
) -> tuple[slice, slice] | None:
    """Returns rows and columns of a random rectangle, None where ten draws did not fit.

    Source: torchvision's `RandomResizedCrop` and `RandomErasing`.
    """
    for _ in range(10):
        area = height * width * rng.uniform(scale[0], scale[1])
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return slice(top, top + h), slice(left, left + w)
    return None


def _centre(height: int, width: int, ratio: tuple[float, ...]) -> tuple[slice, slice]:
    """Returns rows and columns of the largest central rectangle of an allowed aspect."""
    h = max(1, min(height, round(width / ratio[0])))
    w = max(1, min(width, round(height * ratio[1])))
    top, left = (height - h) // 2, (width - w) // 2
    return slice(top, top + h), slice(left, left + w)


def _resized_crop(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, a: Augmentation, p: Preprocessing
) -> UInt8[np.ndarray, "{p.size} {p.size} 3"]:
    height, width = image.shape[:2]
    rectangle = _rectangle(rng, height, width, a.scale, a.ratio)
    return _whole(image[rectangle or _centre(height, width, a.ratio)], p.size, p)


def _random_crop(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, a: Augmentation, p: Preprocessing
) -> UInt8[np.ndarray, "{p.size} {p.size} 3"]:
    side = a.resize or transforms.resized_short(p)
    if side < p.size:
        raise UserError(
            f"expected 0 or at least {p.size}, the side of the images that the network takes "
            f"(`preprocess.size`); got {side}",
            field="augment.resize",
        )
    top, left = rng.integers(side - p.size, size=2, endpoint=True)
    return _whole(image, side, p)[top : top + p.size, left : left + p.size]


def _shift(
    image: UInt8[np.ndarray, "side side 3"], rng: np.random.Generator, share: float
) -> UInt8[np.ndarray, "side side 3"]:
    side = len(image)
    reach = math.floor(share * side + 1e-6)  # 0.29 * 100 is a hair below 29
    down, right = rng.integers(-reach, reach, size=2, endpoint=True)
    rows, columns = (np.clip(np.arange(side) - by, 0, side - 1) for by in (down, right))
    return image[rows[:, None], columns]


def _jitter(
    picture: Image.Image, rng: np.random.Generator, jitter: tuple[float, ...]
) -> Image.Image:
    """Returns the picture in other colours, as torchvision's `ColorJitter` makes them."""
    if not any(jitter):
        return picture
    for i in rng.permutation(4):
        if not jitter[i]:
            continue
        if i == 3:
            picture = _turn_hue(picture, rng.uniform(-jitter[3], jitter[3]))
        else:
            factor = rng.uniform(max(0.0, 1.0 - jitter[i]), 1.0 + jitter[i])
            picture = _ENHANCERS[i](picture).enhance(factor)
    return picture


def _turn_hue(picture: Image.Image, turn: float) -> Image.Image:
    hue, saturation, value = picture.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(int(turn * 255) % 256)  # wraps around, as hue does
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def _erase(
    image: UInt8[np.ndarray, "side side 3"], rng: np.random.Generator, p: Preprocessing
) -> UInt8[np.ndarray, "side side 3"]:
    rectangle = _rectangle(rng, len(image), len(image), _ERASED_SCALE, _ERASED_RATIO)
    if rectangle is None:
        return image
    mean = p.mean[::-1] if p.channels == "BGR" else p.mean
    image = image.copy()
    image[rectangle] = np.round(mean)
    return image
