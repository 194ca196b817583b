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
from tl.endpoints import Extraction, compute_rows
from tl.errors import UserError
from tl.features import extract
from tl.weights.spec import Preprocessing

SECONDS = 25.0  # that extraction may take
MOST_ROWS = 3000  # more narrow the interval little: with 1,000 of them held out it is +-2.5 points
LEAST_ROWS = 200
TIMED_BATCHES = 3

Log = Callable[[str], Any]


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
    """Returns a random order int [n] in which every start has the classes in their proportions."""
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    places = np.empty(len(labels))
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        places[rows] = (np.arange(len(rows)) + rng.uniform()) / len(rows)
    return np.argsort(places, kind="stable")


def folds(labels: np.ndarray) -> np.ndarray:
    """Returns which rows each fold holds out, bool [folds, n], stratified.

    Up to 400 rows five folds and up to 1,500 three, each row held out once, because few rows must
    serve as both; beyond that a third of the rows, once.

    Args:
      labels: int [n], in a random order.
    """
    labels = np.asarray(labels)
    count = 5 if len(labels) <= 400 else 3
    fold_of = np.empty(len(labels), int)
    for number, label in enumerate(np.unique(labels)):
        rows = np.flatnonzero(labels == label)
        fold_of[rows] = (np.arange(len(rows)) + number) % count  # shifted, for equal folds
    held = fold_of == np.arange(count)[:, None]
    return held if len(labels) <= 1500 else held[:1]


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
      UserError: too few rows to hold any out.
    """

    def ordered(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = rows[stratified_order(labels[rows], seed)]
        return rows, labels[rows]

    chosen = splits.few_shot(labels, k, seed) if k else np.flatnonzero(labels >= 0)
    train, train_labels = ordered(chosen, labels)
    classes = len(np.unique(train_labels))
    if classes < 2 or len(train) < 2 * classes:
        raise UserError(
            f"advice needs two classes with two images each at least, got {len(train)} images of "
            f"{classes} class(es); give more in --config.data.train or "
            "--config.data.examples_per_class"
        )
    if val_labels is None:
        return Rows(train, train_labels)
    return Rows(train, train_labels, *ordered(np.flatnonzero(val_labels >= 0), val_labels))


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
      preprocessing, extraction: as in `tl.features.extract`.
      root: of the feature stores, which are used where the whole train split is drawn.
      limit: rows to draw; 0 for what SECONDS allow, by a timed start, up to MOST_ROWS.
      log: takes a line of text.

    Raises:
      UserError: as `tl.features.extract`.
    """

    def compute(split: str, chosen: np.ndarray) -> Iterator:
        return compute_rows(network, opened[split], preprocessing, extraction, chosen, log=log)

    rate = _rate(lambda chosen: compute("train", chosen), rows.train, extraction.batch_size)
    wanted = limit or affordable(rate)
    log(f"{rate:.0f} images a second; looking at {min(wanted, rows.count):,} of {rows.count:,}")
    if rows.val is None:
        train = rows.train[:wanted]
        if len(train) == len(opened["train"]):
            # Its lines are of no use here, where all features are new.
            store = extract(
                network, opened["train"], preprocessing, extraction, root, log=lambda line: None
            )
            features = {name: store.read(name, train) for name in extraction.endpoints}
            labels = store.labels()[train]
        else:
            features, labels = _collected(compute("train", train))
        kept = labels >= 0
        features = {name: values[kept] for name, values in features.items()}
        labels = labels[kept]
        stored = len(train) == len(opened["train"])
        return Sample(features, labels, folds(labels), rate, stored)
    held = min(len(rows.val), max(1, wanted // 3))
    train, train_labels = _collected(compute("train", rows.train[: wanted - held]))
    val, val_labels = _collected(compute("val", rows.val[:held]))
    labels = np.concatenate([train_labels, val_labels])
    features = {name: np.concatenate([train[name], val[name]]) for name in train}
    is_val = np.arange(len(labels)) >= len(train_labels)
    kept = labels >= 0
    return Sample(
        {name: values[kept] for name, values in features.items()},
        labels[kept],
        is_val[None, kept],
        rate,
        stored=False,
    )


def affordable(images_per_second: float) -> int:
    """Returns how many rows to draw: a round number, so that small changes of speed do not show."""
    count = int(np.clip(SECONDS * images_per_second, LEAST_ROWS, MOST_ROWS))
    return count // 100 * 100


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
