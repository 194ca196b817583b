"""The images that advice looks at and their features: as many as half a minute can compute.

They come from train and, if val is a split of its own, from val; never from test.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from tl.data import splits
from tl.data.sources import Source
from tl.errors import UserError
from tl.features.extract import extract
from tl.features.network import Computed, Extraction, compute_rows
from tl.files import Log
from tl.weights.load import Pretrained
from tl.weights.spec import Preprocessing

SECONDS = 25.0  # that extraction may take
MOST_ROWS = 3000  # of which 1,000 are held out: the interval is +-2.5 points, and more add little
LEAST_ROWS = 200
LEAST_PER_CLASS = 5  # on average, within MOST_ROWS
MANY_CLASSES = 100  # from here on there is one fold, for fits take time in proportion to classes
TIMED_BATCHES = 3


@dataclasses.dataclass(frozen=True)
class Rows:
    """Labelled rows that a run could use, in an order in which every start is stratified.

    Attributes:
      train: int [n], rows of the train source; val may be carved from them.
      train_labels: int [n].
      val: int [m], rows of the val source; None if there is none.
      val_labels: int [m].
      groups: int [n], of the rows of train, equal for rows that no fold may part; None where every
        row stands alone.
    """

    train: Int[np.ndarray, " n"]
    train_labels: Int[np.ndarray, " n"]
    val: Int[np.ndarray, " m"] | None = None
    val_labels: Int[np.ndarray, " m"] | None = None
    groups: Int[np.ndarray, " n"] | None = None

    @property
    def count(self) -> int:
        """Rows of train and val together, which a probe is refitted on."""
        return len(self.train) + (0 if self.val is None else len(self.val))


@dataclasses.dataclass(frozen=True)
class Sample:
    """Features of some of the rows, and which of them each fold holds out.

    Attributes:
      features: endpoint to float32 [n, D].
      labels: int [n].
      held: bool [folds, n], the rows that a fold holds out; it is fitted to the others.
      images_per_second: features that the frozen network computes, measured.
      stored: whether the features are in the store of the whole train split.
    """

    features: Mapping[str, Float[np.ndarray, "n _"]]
    labels: Int[np.ndarray, " n"]
    held: Bool[np.ndarray, "folds n"]
    images_per_second: float
    stored: bool


def stratified_order(labels: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    """Returns a random order int [n] in which every start has the classes in their proportions.

    One row of each class comes first, then a second row of each, however rare a class is. A start
    of twice as many rows as classes can thus be fitted and tested on every class.
    """
    rng = np.random.default_rng(seed)
    places = np.empty(len(labels))
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        places[rows] = (np.arange(len(rows)) + rng.uniform()) / len(rows)
        places[rows[:1]] -= 2
        places[rows[1:2]] -= 1
    return np.argsort(places, kind="stable")


def folds(
    labels: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"] | None = None
) -> Bool[np.ndarray, "folds n"]:
    """Returns which rows each fold holds out, bool [folds, n], stratified.

    Up to 400 rows make five folds and up to 1,500 make three, and every row is held out once, for
    few rows must serve for fitting and for testing. More rows, or MANY_CLASSES, make one fold that
    holds out a third of the rows. See `tl.data.splits.folds`: whole groups are held out, and every
    fold is fitted to a row of each class.

    Args:
      labels: int [n], in a random order.
      groups: int [n], equal for rows that no fold may part; None where every row stands alone.

    Raises:
      UserError: no group can be held out.
    """
    classes = np.unique(labels)
    once = len(labels) > 1500 or len(classes) >= MANY_CLASSES
    count = 5 if len(labels) <= 400 and not once else 3
    held = splits.folds(labels, count, groups)
    if not len(held):
        alone = len(labels) if groups is None else len(np.unique(groups))
        raise UserError(
            f"advice needs two groups of some class at least, got {alone} groups of "
            f"{len(classes)} classes; give more images in `data.train`"
        )
    return held[:1] if once else held


def choose_rows(
    labels: Int[np.ndarray, " n"],
    k: int,
    seed: int,
    val_labels: Int[np.ndarray, " m"] | None = None,
    groups: Int[np.ndarray, " n"] | None = None,
) -> Rows:
    """Returns all rows that a run with `k` examples per class would use.

    Args:
      labels: int [N], of the train source; -1 for rows to leave out.
      k: examples of each class; 0 for all.
      seed: of the choice and the order.
      val_labels: int [M], of the val source; None if there is none.
      groups: int [N], of the train source, see `Rows`.

    Raises:
      UserError: rows that cannot be used, see `check`.
    """

    def ordered(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = rows[stratified_order(labels[rows], seed)]
        return rows, labels[rows]

    chosen = splits.few_shot(labels, k, seed, groups) if k else np.flatnonzero(labels >= 0)
    train, train_labels = ordered(chosen, labels)
    if val_labels is None:
        rows = Rows(train, train_labels, groups=None if groups is None else groups[train])
    else:
        rows = Rows(train, train_labels, *ordered(np.flatnonzero(val_labels >= 0), val_labels))
    check(rows.train_labels, rows.val_labels)
    return rows


def check(train_labels: Int[np.ndarray, " n"], val_labels: Int[np.ndarray, " m"] | None) -> None:
    """Raises UserError if a probe cannot be fitted to some of the rows and tested on others.

    Args:
      train_labels: int [n].
      val_labels: int [m]; None if rows of train are held out.
    """
    counts = np.unique(train_labels, return_counts=True)[1]
    got = f"got {counts.sum()} images of {len(counts)} class(es)"
    if val_labels is None and np.sum(counts >= 2) < 2:
        if np.any(counts == 1):
            got += f", {np.sum(counts == 1)} of them with a single one"
        raise UserError(
            f"advice needs two classes with two images each at least, {got}; give more in "
            "`data.train` or `data.examples_per_class`, or a split of its own as `data.val`"
        )
    if len(counts) < 2:
        raise UserError(f"advice needs two classes at least, {got}; give more in `data.train`")
    if val_labels is not None and not len(val_labels):
        raise UserError("no image of it has a label; choose another split", field="data.val")


def check_limit(limit: int, classes: int) -> None:
    """Raises UserError if a number of images to look at is too small for the classes; 0 is not."""
    if 0 < limit < (least := max(20, 2 * classes)):
        raise UserError(
            f"expected --images of at least {least}, two of each class, or 0 for what time allows; "
            f"got {limit}"
        )


def draw(
    network: Pretrained,
    opened: Mapping[str, Source],
    rows: Rows,
    preprocessing: Preprocessing,
    extraction: Extraction,
    root: str | Path,
    *,
    limit: int = 0,
    log: Log = print,
) -> Sample:
    """Returns features of as many rows as there is time for.

    Args:
      network: whose features.
      opened: split to source; only `train` and, if rows.val is there, `val` are read.
      rows: to draw from, each list from its start.
      preprocessing, extraction: as in `tl.features.extract.extract`.
      root: of the feature stores; one is filled if the whole train split is drawn.
      limit: rows to draw; 0 for as many as SECONDS allow by a timed start, but at least LEAST_ROWS,
        LEAST_PER_CLASS of each class, and at most MOST_ROWS.
      log: takes a line of text.

    Raises:
      UserError: as `tl.features.extract.extract` and `check_limit`; too few images can be decoded.
    """
    classes = len(np.unique(rows.train_labels))
    check_limit(limit, classes)

    def compute(split: str, chosen: Int[np.ndarray, " n"]) -> Computed:
        return compute_rows(network, opened[split], preprocessing, extraction, chosen, log=log)

    rate = _rate(lambda chosen: compute("train", chosen), rows.train, extraction.batch_size)
    wanted = limit or affordable(rate, classes)
    log(f"{rate:.0f} images a second; looking at {min(wanted, rows.count):,} of {rows.count:,}")
    stored = rows.val is None and min(wanted, rows.count) == len(opened["train"])
    if rows.val is None:
        train, val = rows.train[:wanted], rows.train[:0]
    else:
        held = min(len(rows.val), max(1, wanted // 3))
        train, val = rows.train[: wanted - held], rows.val[:held]
    if stored:
        # Its lines say whether features were reused, which does not matter here.
        store = extract(
            network, opened["train"], preprocessing, extraction, root, log=lambda line: None
        )
        features = {name: store.read(name, train) for name in extraction.endpoints}
        labels = store.labels()[train]
    else:
        features, labels = _collected(compute("train", train))
    is_val = np.zeros(len(labels), bool)
    if rows.val is not None:
        val_features, val_labels = _collected(compute("val", val))
        features = {name: np.concatenate([x, val_features[name]]) for name, x in features.items()}
        is_val = np.repeat([False, True], [len(labels), len(val_labels)])
        labels = np.concatenate([labels, val_labels])
    kept = labels >= 0  # an image that does not decode has no label
    features = {name: values[kept] for name, values in features.items()}
    labels, is_val = labels[kept], is_val[kept]
    check(labels[~is_val], None if rows.val is None else labels[is_val])
    groups = None if rows.groups is None else rows.groups[: len(kept)][kept]
    held_out = folds(labels, groups) if rows.val is None else is_val[None]
    return Sample(features, labels, held_out, rate, stored)


def affordable(images_per_second: float, classes: int) -> int:
    """Returns how many rows to draw, in hundreds, so that small changes of speed change nothing."""
    count = int(SECONDS * images_per_second) // 100 * 100
    return min(max(count, LEAST_ROWS, LEAST_PER_CLASS * classes), MOST_ROWS)


def _rate(
    compute: Callable[[Int[np.ndarray, " n"]], Computed],
    rows: Int[np.ndarray, " m"],
    batch_size: int,
) -> float:
    """Returns images a second after the first batch, which waits for the compiler."""
    times = []
    for batch, _ in compute(np.resize(rows, TIMED_BATCHES * batch_size)):
        times.append((time.perf_counter(), int(np.sum(batch["mask"]))))
    images = sum(count for _, count in times[1:])
    return images / max(times[-1][0] - times[0][0], 1e-9)


def _collected(
    computed: Computed,
) -> tuple[dict[str, Float[np.ndarray, "n _"]], Int[np.ndarray, " n"]]:
    """Returns the features of all batches, by endpoint, and the labels."""
    parts: dict[str, list[np.ndarray]] = {}
    labels = []
    for batch, features in computed:
        labels.append(batch["label"][batch["mask"]])
        for name, values in features.items():
            parts.setdefault(name, []).append(values[batch["mask"]])
    return {name: np.concatenate(chunks) for name, chunks in parts.items()}, np.concatenate(labels)
