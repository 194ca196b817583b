"""The rows that advice looks at, and their features: as many as half a minute can compute.

They come from train, and from val where that is a split of its own; never from test.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tl.data import splits
from tl.errors import UserError
from tl.features.extract import extract
from tl.features.network import Extraction, compute_rows
from tl.files import Log
from tl.weights.spec import Preprocessing

SECONDS = 25.0  # that extraction may take
MOST_ROWS = 3000  # more narrow the interval little: with 1,000 of them held out it is +-2.5 points
LEAST_ROWS = 200
LEAST_PER_CLASS = 5  # on average, as far as MOST_ROWS allow
MANY_CLASSES = 100  # from which one division must do: a fit takes time in proportion to them
TIMED_BATCHES = 3


@dataclasses.dataclass(frozen=True)
class Rows:
    """Labelled rows that a run could use, each list in an order whose every start is stratified.

    Attributes:
      train: int [n] rows of the train source, of which val may be carved.
      val: int [m] rows of the val source; None where there is none.
      train_labels, val_labels: int [n] and [m].
    """

    train: np.ndarray
    train_labels: np.ndarray
    val: np.ndarray | None = None
    val_labels: np.ndarray | None = None

    @property
    def count(self) -> int:
        """Rows of both, which a probe is refitted on."""
        return len(self.train) + (0 if self.val is None else len(self.val))


@dataclasses.dataclass(frozen=True)
class Sample:
    """Features of some of the rows, and how they take turns in being held out.

    Attributes:
      features: endpoint to float32 [n, D].
      labels: int [n].
      held: bool [folds, n]; in each fold the others are trained on.
      images_per_second: that the frozen network computes, measured.
      stored: whether the features are in the store of the whole train split.
    """

    features: Mapping[str, np.ndarray]
    labels: np.ndarray
    held: np.ndarray
    images_per_second: float
    stored: bool


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns a random order int [n] in which every start has the classes in their proportions.

    A row of each class comes first and a second one next, however rare: so a start of as many
    rows lacks none, and one of twice as many has what to fit and what to hold out.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    places = np.empty(len(labels))
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        places[rows] = (np.arange(len(rows)) + rng.uniform()) / len(rows)
        places[rows[:1]] -= 2
        places[rows[1:2]] -= 1
    return np.argsort(places, kind="stable")


def folds(labels: np.ndarray) -> np.ndarray:
    """Returns which rows each fold holds out, bool [folds, n], stratified.

    Up to 400 rows five folds and up to 1,500 three, each row held out once, because few rows must
    serve as both; beyond that, and with MANY_CLASSES, a third of the rows, once. A class of two
    rows or more is among the others of every fold.

    Args:
      labels: int [n], in a random order.
    """
    labels = np.asarray(labels)
    classes = np.unique(labels)
    once = len(labels) > 1500 or len(classes) >= MANY_CLASSES
    count = 5 if len(labels) <= 400 and not once else 3
    fold_of = np.empty(len(labels), int)
    for number, label in enumerate(classes):
        rows = np.flatnonzero(labels == label)
        fold_of[rows] = (np.arange(len(rows)) + number) % count  # shifted, for equal folds
    # Folds of very few rows may be empty.
    held = [fold_of == fold for fold in range(count) if np.any(fold_of == fold)]
    return np.stack(held[:1] if once else held)


def choose_rows(
    labels: np.ndarray, k: int, seed: int, val_labels: np.ndarray | None = None
) -> Rows:
    """Returns all rows that a run of `k` examples a class would use.

    Args:
      labels: int [N] of the train source; -1 for rows to leave out.
      k: of each class; 0 for all.
      seed: of the choice and the order.
      val_labels: of the val source, where there is one.

    Raises:
      UserError: rows that cannot be used, see `check`.
    """

    def ordered(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = rows[stratified_order(labels[rows], seed)]
        return rows, labels[rows]

    chosen = splits.few_shot(labels, k, seed) if k else np.flatnonzero(labels >= 0)
    train, train_labels = ordered(chosen, labels)
    if val_labels is None:
        rows = Rows(train, train_labels)
    else:
        rows = Rows(train, train_labels, *ordered(np.flatnonzero(val_labels >= 0), val_labels))
    check(rows.train_labels, rows.val_labels)
    return rows


def check(train_labels: np.ndarray, val_labels: np.ndarray | None) -> None:
    """Raises UserError where a probe could not be fitted to some of the rows and tried on others.

    Args:
      train_labels: int [n].
      val_labels: int [m]; None where rows of train are held out.
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


def draw(
    network: Any,
    opened: Mapping[str, Any],
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
      network: a `tl.weights.load.Pretrained`.
      opened: sources; only `train` and, where rows.val is there, `val` are read.
      rows: to draw from; each list from its start.
      preprocessing, extraction: as in `tl.features.extract.extract`.
      root: of the feature stores, which are used where the whole train split is drawn.
      limit: rows to draw; 0 for what SECONDS allow, by a timed start, but at least
        LEAST_PER_CLASS of each class and up to MOST_ROWS.
      log: takes a line of text.

    Raises:
      UserError: as `tl.features.extract.extract`; a limit below two rows of each class; rows that
        decoding leaves out, so that too few are left.
    """
    classes = len(np.unique(rows.train_labels))
    if 0 < limit < (least := max(20, 2 * classes)):
        raise UserError(
            f"expected --images of at least {least}, two of each class, or 0 for what time allows; "
            f"got {limit}"
        )

    def compute(split: str, chosen: np.ndarray) -> Iterator:
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
        # Its lines are of no use here, where all features are new.
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
    kept = labels >= 0  # what does not decode has no label
    features = {name: values[kept] for name, values in features.items()}
    labels, is_val = labels[kept], is_val[kept]
    check(labels[~is_val], None if rows.val is None else labels[is_val])
    held_out = folds(labels) if rows.val is None else is_val[None]
    return Sample(features, labels, held_out, rate, stored)


def affordable(images_per_second: float, classes: int) -> int:
    """Returns how many rows to draw: a round number, so that small changes of speed do not show."""
    count = int(SECONDS * images_per_second) // 100 * 100
    return min(max(count, LEAST_ROWS, LEAST_PER_CLASS * classes), MOST_ROWS)


def _rate(compute: Callable[[np.ndarray], Iterator], rows: np.ndarray, batch_size: int) -> float:
    """Returns images a second after the first batch, which waits for the compiler."""
    times = []
    for batch, _ in compute(np.resize(rows, TIMED_BATCHES * batch_size)):
        times.append((time.perf_counter(), int(np.sum(batch["mask"]))))
    images = sum(count for _, count in times[1:])
    return images / max(times[-1][0] - times[0][0], 1e-9)


def _collected(computed: Iterator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    labels = []
    for batch, features in computed:
        labels.append(batch["label"][batch["mask"]])
        for name, values in features.items():
            parts.setdefault(name, []).append(values[batch["mask"]])
    return {name: np.concatenate(chunks) for name, chunks in parts.items()}, np.concatenate(labels)
