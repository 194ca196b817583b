"""What a run costs, read from its config before it runs, and how long that takes."""

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from tl import devices
from tl.data import sources, splits
from tl.data.sources import Data, Source
from tl.models import registry
from tl.runs import options
from tl.weights import catalog

USUAL_SIZE = 224  # of images, where a weight file says it only when it is read

TRAINING = 3.0  # passes that a training step is worth: forward, and twice as much backward
START_SECONDS = {"probe": 8.0, "finetune": 30.0}  # imports and compiling
FIT_SECONDS = 2e-7  # of a probe's path, for each row, feature and strength of the grid


@dataclasses.dataclass(frozen=True)
class Images:
    """A run's images, as they are known before any is read.

    Attributes:
      counts: split to its number of images; `val` only if it is a split of its own.
      labels: int [N] of train; -1 for images to leave out.
      shape: (H, W, 3) if all images share one, else None.
      groups: of train's rows, none of which is divided (`tl.data.sources.groups`).
    """

    counts: Mapping[str, int]
    labels: Int[np.ndarray, " n"]
    shape: tuple[int, int, int] | None
    groups: Int[np.ndarray, " n"] | None = None

    @classmethod
    def of(cls, opened: Mapping[str, Source]) -> "Images":
        """Returns what is known of opened splits."""
        counts = {split: len(source) for split, source in opened.items()}
        train = opened["train"]
        return cls(counts, train.labels(), train.image_shape, sources.groups(train))


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one run costs.

    Attributes:
      steps: updates of the network.
      trained: images through the forward and backward pass.
      evaluated: images through the forward pass, to choose and to test.
      extracted: images through the frozen network; what runs share counts for each of them.
      size: side of the images, in pixels.
      fit: rows times features times strengths of a probe's grid, over all seeds and folds; 0 if
        not known.
    """

    steps: int
    trained: int
    evaluated: int
    extracted: int
    size: int
    fit: float = 0.0

    def work(self, step: float = TRAINING) -> float:
        """Returns the pixels through a forward pass, at least those of one image.

        Args:
          step: forward passes that a training step is worth.
        """
        return self.size**2 * (1 + step * self.trained + self.evaluated + self.extracted)


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast a machine does the work of a run.

    Attributes:
      pixels: per second, through a forward pass.
      step: forward passes that a training step takes as long as.
      start: seconds before the first image.
      fit: seconds for each unit of `Cost.fit`.
    """

    pixels: float
    step: float = TRAINING
    start: float = 0.0
    fit: float = 0.0


def cost_of(
    kind: str,
    config: ConfigDict,
    images: Images,
    *,
    size: int = 0,
    width: int = 0,
    stored: Collection[str] = (),
) -> Cost:
    """Returns what a run costs.

    Args:
      kind: `probe` or `finetune`.
      config: of the run, see `configs/common.py`.
      images: of its data.
      size: side of the images the network takes; 0 if only the config and the catalogue tell.
      width: features of the probe; 0 if not known.
      stored: splits whose features need not be extracted.

    Raises:
      UserError: the config is wrong, or the data have too few images for it.
    """
    size = size or _size(config)
    every = sum(n for split, n in images.counts.items() if split not in stored)
    if kind == "probe":
        fitted = _rows(config, images) * max(1, (options.data(config).folds or 0) - 1)
        fit = width and width * fitted * len(config.probe.l2) * len(config.seeds)
        return Cost(0, 0, 0, every, size, fit)
    num_train, num_val = _divided(
        images,
        options.examples_per_class(config),
        options.seed(config),
        options.data_to_hold_out(config, "fine-tuning"),
    )
    recipe = options.recipe(config, num_train, images.shape)
    cadence = recipe.cadence
    evaluations = 1 + -(-cadence.steps // cadence.eval_every)  # before the first step, too
    return Cost(
        steps=cadence.steps,
        trained=cadence.steps * recipe.batch_size,
        evaluated=evaluations * num_val + images.counts["test"],
        extracted=every if recipe.head == "probe" or recipe.cache_prefix else 0,
        size=recipe.overrides.size or size,
    )


def measured(kind: str, backbone: str, images_per_second: float, size: int) -> Speed:
    """Returns the speed of a run on a machine whose frozen network was timed.

    Args:
      kind: `probe` or `finetune`.
      backbone: name of the network.
      images_per_second: of the frozen network's features.
      size: side of those images.
    """
    return Speed(
        pixels=images_per_second * size**2,
        step=registry.get(backbone).step_cost if devices.is_cpu() else TRAINING,
        start=START_SECONDS[kind],
        fit=FIT_SECONDS,
    )


def time_of(cost: Cost, speed: Speed) -> float:
    """Returns about how long a run takes, in seconds."""
    return speed.start + cost.work(speed.step) / speed.pixels + speed.fit * cost.fit


def _rows(config: ConfigDict, images: Images) -> int:
    """Returns how many rows the probes are refitted to, at the largest number of examples."""
    most = max(config.data.examples_per_class, key=lambda k: k or np.inf)
    return sum(_divided(images, most, config.seeds[0], options.data(config)))


def _divided(images: Images, k: int, seed: int, data: Data) -> tuple[int, int]:
    """Returns the numbers of images to train on and to choose on."""
    if data.folds:
        train, _ = splits.cross_validation(images.labels, k, data.folds, seed, images.groups)
        return len(train), 0
    fraction = None if "val" in images.counts else data.val_fraction
    train, val = splits.train_and_val(images.labels, k, fraction, seed, images.groups)
    return len(train), images.counts["val"] if val is None else len(val)


def _size(config: ConfigDict) -> int:
    if config.preprocess.size:
        return config.preprocess.size
    known = config.weights_like or config.weights
    return catalog.get(known).preprocessing.size if known in catalog.names() else USUAL_SIZE
