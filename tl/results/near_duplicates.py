"""Finds test and val images that are nearly the same as a training image, by their features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from tl.results import formats
from tl.results.examples import PICTURES
from tl.results.intervals import accuracy_interval
from tl.results.predictions import Predictions

COSINE = 0.9
RATIO = 0.6
MOST_PAIRS = 12  # in `result.json` and on the page

_AT_ONCE = 1 << 24  # similarities in memory: 64 MiB
_SAME = 1e-5  # 1 - cosine of equal features, which rounding leaves above 0


class Nearest(NamedTuple):
    """The training image that is nearest to each image of a split.

    Attributes:
      cosines: float32 [N], in -1..1.
      rows: int64 [N], rows of the training images.
      near: bool [N], whether the two are near duplicates.
    """

    cosines: Float32[np.ndarray, " n"]
    rows: Int[np.ndarray, " n"]
    near: Bool[np.ndarray, " n"]


def nearest(features: Float[np.ndarray, "n d"], training: Float[np.ndarray, "m d"]) -> Nearest:
    """Finds the nearest training row of each row, and the near duplicates among these pairs.

    The cosine is of features from which the mean of the training rows was subtracted. A pair is a
    near duplicate if its cosine is at least COSINE and its distance at most RATIO of the distance
    to the third nearest training row, both distances between rows of length 1. The second condition
    holds off data and networks whose different images all have high cosines. Equal features are
    near duplicates in any case.

    Both were chosen on these images, with pooled features of EfficientNet-Lite0. False alarms: 0 of
    400 images of CIFAR-10 beside 1,000 others, 1 of 797 digits beside 1,000, 0 of 80 parts of
    photographs beside the others. Changed copies found, of 25 images of CIFAR-10 and of 20 parts of
    photographs: JPEG of quality 95: 100 and 100 %, 75: 100 and 50 %, 50: 0 and 25 %; resized to
    200 %: 96 and 90 %, 50 %: 0 and 25 %; 5 % cropped: 56 and 80 %; brightness 0.8: 96 and 95 %.
    Without the second condition 7 of 300 digits are false alarms, without centring too all of them.

    Args:
      features: float [N, D].
      training: float [M, D], M >= 1; of equally near rows the first counts. If M < 3, the second
        condition is left out.
    """
    mean = training.mean(axis=0, dtype=np.float64).astype(np.float32)
    bank = _directions(training, mean)
    at_once = max(1, _AT_ONCE // len(bank))
    ranks = min(3, len(bank))
    cosines = np.empty((ranks, len(features)), np.float32)
    rows = np.empty((ranks, len(features)), np.int64)
    for start in range(0, len(features), at_once):
        part = slice(start, start + at_once)
        block = _directions(features[part], mean) @ bank.T
        each = np.arange(len(block))
        for rank in range(ranks):
            rows[rank, part] = best = block.argmax(axis=1)
            cosines[rank, part] = block[each, best]
            block[each, best] = -np.inf
    near = cosines[0] >= COSINE
    if ranks == 3:  # of vectors of length 1 the squared distance is 2 - 2 * cosine
        near &= 1 - cosines[0] <= np.maximum(RATIO**2 * (1 - cosines[2]), _SAME)
    return Nearest(np.clip(cosines[0], -1, 1), rows[0], near)


@dataclass(frozen=True)
class Pair:
    """A test or val image and the training image that it is a near duplicate of.

    Attributes:
      split: 'test' or 'val'.
      row: of the predictions.
      training_row: row of the training images that this split was compared with.
      cosine: between their features.
    """

    split: str
    row: int
    training_row: int
    cosine: float

    def files(self) -> tuple[str, str]:
        """Returns the names of the two pictures in the run's folder."""
        start = f"{PICTURES}/near-{self.split}-{self.row}"
        return f"{start}.png", f"{start}-training.png"


def first_pairs(found: Mapping[str, Nearest]) -> list[Pair]:
    """Returns at most MOST_PAIRS near duplicates: the nearest of each split first.

    Args:
      found: 'test' and, if compared, 'val' to their nearest training images, in this order.
    """
    pairs = []
    for split, nearest in found.items():
        rows = np.flatnonzero(nearest.near)
        for row in rows[np.argsort(-nearest.cosines[rows], kind="stable")].tolist():
            pairs.append(Pair(split, row, int(nearest.rows[row]), float(nearest.cosines[row])))
    return pairs[:MOST_PAIRS]


def summary(found: Mapping[str, Nearest], predictions: Predictions) -> dict[str, Any]:
    """Returns how many near duplicates there are, and the accuracy on test without them.

    Args:
      found: 'test' and, if compared, 'val' to their nearest training images, in the rows of
        `predictions`.
      predictions: of the run.

    Returns:
      `cosine`, `ratio` and the splits of the result's `near_duplicates`. `top1_without` and
      `top1_without_ci95` of test are None where no image is left.
    """
    counts: dict[str, dict[str, Any]] = {
        split: {"count": int(nearest.near.sum()), "images": len(nearest.near)}
        for split, nearest in found.items()
    }
    kept = ~found["test"].near
    correct = predictions.correct.mean(axis=0)[kept]
    groups = None if predictions.groups is None else predictions.groups[kept]
    without = {
        "top1_without": float(correct.mean()) if len(correct) else None,
        "top1_without_ci95": list(accuracy_interval(correct, groups=groups))
        if len(correct)
        else None,
    }
    counts["test"] |= without
    return {"cosine": COSINE, "ratio": RATIO, **counts}


def warnings(near: Mapping[str, Any]) -> list[str]:
    """Returns what to know of near duplicates before trusting the run's accuracy.

    Args:
      near: `near_duplicates` of a result.
    """
    told = []
    for split in splits(near):
        if near[split]["count"]:
            told.append(f"{counted(near, split)}: cosine >= {near['cosine']:.2f}")
            if split == "test":
                told[-1] += f"; {accuracy_without(near)}"
    return told


def splits(near: Mapping[str, Any]) -> list[str]:
    """Returns the splits that were compared with training images: test and, but for folds, val.

    Args:
      near: `near_duplicates` of a result.
    """
    return [split for split in ("test", "val") if split in near]


def counted(near: Mapping[str, Any], split: str) -> str:
    """Says how many images of a split are near duplicates.

    Args:
      near: `near_duplicates` of a result.
      split: 'test' or 'val'.
    """
    count, images = near[split]["count"], near[split]["images"]
    are = "is a near duplicate" if count == 1 else "are near duplicates"
    return f"{count:,} of {images:,} {split} images {are} of training images"


def accuracy_without(near: Mapping[str, Any]) -> str:
    """Says what the accuracy on test is without near duplicates.

    Args:
      near: `near_duplicates` of a result.
    """
    test = near["test"]
    if test["top1_without"] is None:
        return "no other test image is left"
    top1, ends = test["top1_without"], "-".join(map(formats.in_percent, test["top1_without_ci95"]))
    rest = test["images"] - test["count"]
    return (
        f"test top-1 on the other {rest:,} is {formats.in_percent(top1)} % (95 % interval {ends})"
    )


def describe(
    pairs: Sequence[Pair],
    predictions: Predictions,
    training: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> list[dict[str, Any]]:
    """Returns the near duplicates with their names, for `pairs` of the result's `near_duplicates`.

    Args:
      pairs: those to describe.
      predictions: of the run.
      training: 'test' and 'val' to the ids and labels of the training images compared with.
    """
    p, described = predictions, []
    images = {"test": (p.test_ids, p.test_labels), "val": (p.val_ids, p.val_labels)}
    for pair in pairs:
        (ids, labels), (training_ids, training_labels) = images[pair.split], training[pair.split]
        file, training_file = pair.files()
        described.append(
            {
                "cosine": pair.cosine,
                "split": pair.split,
                "id": str(ids[pair.row]),
                "label": str(p.classes[labels[pair.row]]),
                "file": file,
                "training_id": str(training_ids[pair.training_row]),
                "training_label": str(p.classes[training_labels[pair.training_row]]),
                "training_file": training_file,
            }
        )
    return described


def _directions(
    features: Float[np.ndarray, "n d"], mean: Float32[np.ndarray, " d"]
) -> Float32[np.ndarray, "n d"]:
    centred = np.float32(features) - mean
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
