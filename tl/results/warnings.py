"""Warnings of what makes a run's numbers mislead: tiny classes, a tiny val, few steps."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from tl.errors import first_of
from tl.files import Log

LEAST_TRAIN, LEAST_TEST = 5, 3  # images of a class
LEAST_VAL = 50  # images in all
# Of a head that starts from nothing. With 10 images a class, 50 steps gave 38 % on CIFAR-10 and
# 48 % on digits, 100 steps 52 and 73 %; from the probe, 50 steps gave 57 and 70 %.
LEAST_STEPS = 100


def of_parts(
    labels: Mapping[str, Int[np.ndarray, " _"]],
    classes: Sequence[Any],
    *,
    chosen: bool = False,
    folds: int = 1,
) -> list[str]:
    """Returns what to know of the rows of a run before trusting its numbers.

    Args:
      labels: of `train`, `val` and `test`, from 0 on.
      classes: names, in the order of the labels.
      chosen: whether the number of training images of each class was asked for, so that few of
        them are no surprise.
      folds: how often rows were held out to choose on; above 1, `val` are rows of train.
    """
    found = of_labels(labels["test"], classes)
    train = np.bincount(labels["train"], minlength=len(classes))
    if absent := [name for name, count in zip(classes, train) if not count]:
        found.append(f"no training image is of {first_of(absent)}")
    if not chosen and folds < LEAST_TRAIN:
        found += _few(train, LEAST_TRAIN, classes, "training")
    if folds > 1 and (few := _few(train, folds, classes, "training")):
        found += [f"{text}; not every one of {folds} folds chooses on them" for text in few]
    if (count := len(labels["val"])) < LEAST_VAL:
        where = "val has" if folds == 1 else f"{folds} folds choose on"
        found.append(
            f"{where} {count} images, fewer than {LEAST_VAL}: what is best on them may be chance"
        )
    return found


def of_labels(labels: Int[np.ndarray, " n"], classes: Sequence[Any]) -> list[str]:
    """Returns what to know of test rows before trusting the accuracy on them.

    Args:
      labels: int [N].
      classes: names, in the order of the labels.
    """
    return _few(np.bincount(labels, minlength=len(classes)), LEAST_TEST, classes, "test")


def of_steps(steps: int, head: str) -> list[str]:
    """Returns what to know of a short training run before trusting its accuracy.

    Args:
      steps: planned.
      head: where it starts, as the field train.head says.
    """
    if head not in ("zero", "random") or not 0 < steps < LEAST_STEPS:
        return []
    return [
        f"{steps} steps are few for a head that starts from nothing; start it from the probe with "
        f"train.head=probe, or train longer with train.min_steps={LEAST_STEPS}"
    ]


def tell(warnings: Iterable[str], log: Log) -> None:
    """Logs warnings."""
    for warning in warnings:
        log(f"warning: {warning}")


def _few(counts: np.ndarray, least: int, classes: Sequence[Any], kind: str) -> list[str]:
    few = [f"{name} ({count})" for name, count in zip(classes, counts) if 0 < count < least]
    if not few:
        return []
    return [
        f"{len(few)} of {len(classes)} classes have fewer than {least} {kind} images: "
        f"{first_of(few)}"
    ]
