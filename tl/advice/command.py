"""A choice as the command that carries it out, complete, and about how long it takes."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tl import devices
from tl.advice.rule import PROBES, Choice
from tl.fields import flat
from tl.results import formats

# What any fine-tuning starts from, whatever else the user's config was made for.
PLAIN = {
    "train.start": "weights",
    "train.freeze": (),
    "train.unfreeze": (),
    "train.cache_prefix": False,
    "train.rule": "",
    "train.steps": 0,
    "train.accumulate": 1,
    "train.eval_every": 0,
    "train.patience": 0,
    "optim.multipliers": (),
    "optim.layer_decay": 1.0,
    "optim.name": "adamw",
    "optim.schedule": "cosine",
    "optim.warmup": 0.1,
    "optim.weight_decay": 0.01,
    "optim.decay": "decoupled",
    "train.head": "zero",
    "train.norm": "frozen",
}
# For images like ImageNet's, or not, as in configs/four_cases.py.
RECIPES = {
    True: {"optim.learning_rate": 3e-4, "augment.flip": 0.5, "augment.shift": 0.0},
    False: {"optim.learning_rate": 1e-3, "augment.flip": 0.0, "augment.shift": 0.1},
}
IMAGES = 25_000  # that training sees, between 5 and 30 epochs

# A training step's time over that of the frozen network's features: backward about twice forward,
# and on a CPU what extraction gains by folding, chunks and a device a core; measured on two cores
# (EfficientNet-Lite0 at 64 px: 2,700 images a second of features, 225 of training).
STEP_OVER_FEATURES = {"accelerator": 3.0, "resnet": 6.0, "efficientnet": 12.0}
START_SECONDS = {"probe": 8.0, "finetune": 30.0}  # imports and compiling
FIT_SECONDS = 2e-6  # of a probe's path, by row, feature and strength of the grid, over 10


def changes(
    choice: Choice, config: ConfigDict, num_train: int, similar: bool, stored: tuple[str, ...]
) -> dict[str, Any]:
    """Returns dotted field to value, what a run of the choice has otherwise than `config`.

    Args:
      choice: what to do.
      config: the user's.
      num_train: rows to train on.
      similar: to ImageNet: photographs, whose mirror images are as good.
      stored: endpoints that the feature store of train has, () where there is none.
    """
    wanted: dict[str, Any] = {"data.examples_per_class": (max_examples(config),)}
    if config.extract.pooling == "none":
        wanted["extract.pooling"] = "mean"
    if choice.method in PROBES:
        wanted |= {"endpoints": (choice.endpoint,), "probe.solvers": ("logistic",)}
        if stored:
            wanted["extract.endpoints"] = stored
    else:
        epochs = min(30.0, max(5.0, round(IMAGES / num_train)))
        wanted |= PLAIN | RECIPES[similar] | {"seeds": config.seeds[:1]}
        wanted |= {"train.epochs": epochs, "train.batch_size": 16 if num_train < 500 else 48}
    have = flat(config)
    return {field: value for field, value in wanted.items() if have[field] != value}


def max_examples(config: ConfigDict) -> int:
    """Returns the largest number of examples a class that is asked for; 0 is all."""
    return max(config.data.examples_per_class, key=lambda k: k or float("inf"))


def command(
    choice: Choice, config_file: str, base: ConfigDict, wanted: ConfigDict, workdir: Path
) -> str:
    """Returns a shell command that runs the choice.

    Args:
      choice: what to do.
      config_file: as the user gave it.
      base: what that file says.
      wanted: what the run is to have; what differs from the file becomes flags.
      workdir: for the run.
    """
    module = "experiments.probe" if choice.method in PROBES else "experiments.finetune"
    have = flat(base)
    flags = [
        f"--config.{field}={_text(value)}"
        for field, value in flat(wanted).items()
        if have.get(field) != value
    ]
    python = sys.orig_argv[0] if sys.orig_argv else "python"
    arguments = [python, "-m", module, f"--config={config_file}", *flags, f"--workdir={workdir}"]
    return " ".join(map(formats.shell_word, arguments))


def seconds(
    choice: Choice,
    config: ConfigDict,
    *,
    counts: Mapping[str, int],
    width: int,
    backbone: str,
    images_per_second: float,
    stored: bool,
) -> float:
    """Returns about how long the command takes on this machine, test included.

    Args:
      choice: what to do.
      config: of its run.
      counts: rows of 'train', with val, that the run uses; images of their 'sources', all of which
        a probe's store has; rows of 'test'.
      width: features of the probe.
      backbone: name of the network.
      images_per_second: of the frozen network, measured.
      stored: whether the features of train are there.
    """
    if choice.method in PROBES:
        images = counts["test"] + (0 if stored else counts["sources"])
        fit = FIT_SECONDS * counts["train"] * width * len(config.probe.l2) / 10
        return START_SECONDS["probe"] + images / images_per_second + fit * len(config.seeds)
    kind = "accelerator" if not devices.is_cpu() else backbone.rstrip("0123456789").split("_")[0]
    passes = config.train.epochs * STEP_OVER_FEATURES.get(kind, STEP_OVER_FEATURES["resnet"])
    images = counts["train"] * passes + counts["test"]
    return START_SECONDS["finetune"] + images / images_per_second


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).replace(" ", "") if isinstance(value, tuple) else str(value)
