"""The command that carries out a choice, complete, and about how long it takes."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tl.advice.rule import PROBES, Choice
from tl.results import formats
from tl.results.called import as_called
from tl.runs import options
from tl.runs.cost import Images, cost_of, measured, time_of

# Fields that every fine-tuning run gets, whatever the user's config was made for.
PLAIN = {
    "train.start": "weights",
    "train.freeze": (),
    "train.unfreeze": (),
    "train.lora": (),
    "train.wise_ft": False,
    "train.cache_prefix": False,
    "train.rule": "",
    "train.steps": 0,
    "train.min_steps": 0,
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
}
# Fields for images that are similar to ImageNet's, or not, as in configs/four_cases.py.
RECIPES = {
    True: {"optim.learning_rate": 3e-4, "augment.flip": 0.5, "augment.shift": 0.0},
    False: {"optim.learning_rate": 1e-3, "augment.flip": 0.0, "augment.shift": 0.1},
}
IMAGES = 25_000  # that training sees, within 5 to 30 epochs


def changes(
    choice: Choice,
    fields: Mapping[str, Any],
    num_train: int,
    similar: bool,
    stored: tuple[str, ...],
    batch_stats: bool,
) -> dict[str, Any]:
    """Returns the fields, by dotted name, in which a run of the choice differs from the config.

    Args:
      choice: what to do.
      fields: dotted name to value, of the user's config.
      num_train: rows to train on.
      similar: whether the images are similar to ImageNet's: photographs, which may be mirrored.
      stored: endpoints in the feature store of train; () if there is none.
      batch_stats: whether the network has batch statistics, which fine-tuning then holds.
    """
    wanted: dict[str, Any] = {"data.examples_per_class": (max_examples(fields),)}
    if fields["extract.pooling"] == "none":
        wanted["extract.pooling"] = "mean"
    if choice.method in PROBES:
        wanted |= {"endpoints": (choice.endpoint,), "probe.solvers": ("logistic",)}
        if stored:
            wanted["extract.endpoints"] = stored
    else:
        epochs = min(30.0, max(5.0, round(IMAGES / num_train)))
        wanted |= PLAIN | RECIPES[similar] | {"seeds": fields["seeds"][:1]}
        wanted["train.norm"] = "frozen" if batch_stats else "train"
        wanted |= {"train.epochs": epochs, "train.batch_size": 16 if num_train < 500 else 48}
    return {field: value for field, value in wanted.items() if fields[field] != value}


def max_examples(fields: Mapping[str, Any]) -> int:
    """Returns the largest number of examples per class that a config asks for; 0 is all."""
    return max(fields["data.examples_per_class"], key=lambda k: k or float("inf"))


def command(
    choice: Choice,
    config_file: str,
    base: Mapping[str, Any],
    wanted: Mapping[str, Any],
    workdir: Path,
) -> str:
    """Returns a shell command that runs the choice.

    Args:
      choice: what to do.
      config_file: as the user gave it.
      base: dotted name to value, of the config in that file.
      wanted: the same of the run; what differs from the file becomes flags.
      workdir: for the run.
    """
    flags = [
        f"--config.{field}={_text(value)}"
        for field, value in wanted.items()
        if base.get(field) != value
    ]
    module = f"experiments.{kind(choice)}"
    python = sys.orig_argv[0] if sys.orig_argv else "python"
    called = as_called(f"{formats.shell_word(python)} -m {module}")
    arguments = [f"--config={config_file}", *flags, f"--workdir={workdir}"]
    return " ".join([called, *map(formats.shell_word, arguments)])


def seconds(
    choice: Choice,
    wanted: Mapping[str, Any],
    images: Images,
    *,
    backbone: str,
    size: int,
    width: int,
    images_per_second: float,
    stored: Collection[str],
) -> float:
    """Returns about how long the command takes on this machine, test included.

    Args:
      choice: what to do.
      wanted: dotted name to value, of the run's config.
      images: of the run's data.
      backbone: name of the network.
      size: side of the images that it takes, in pixels.
      width: features of the probe; 0 for fine-tuning.
      images_per_second: features that the frozen network computes, measured.
      stored: splits whose features need not be extracted.
    """
    cost = cost_of(
        kind(choice), options.config(wanted), images, size=size, width=width, stored=stored
    )
    return time_of(cost, measured(kind(choice), backbone, images_per_second, size))


def kind(choice: Choice) -> str:
    """Returns the kind of run that a choice is: `probe` or `finetune`."""
    return "probe" if choice.method in PROBES else "finetune"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).replace(" ", "") if isinstance(value, tuple) else str(value)
