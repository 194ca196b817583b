"""Looks for near duplicates between test or val and train in the features that a run stores."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tl import hosts
from tl.data.sources import Source
from tl.features.store import FeatureStore
from tl.files import Log
from tl.models.backbone import FINAL, LOGITS
from tl.results import near_duplicates
from tl.results.examples import save_picture
from tl.results.near_duplicates import Nearest
from tl.results.predictions import Predictions
from tl.runs.parts import Division

MOST_PRODUCTS = 10**12  # multiplications of two numbers; see docs/data.md for how long they take
_ENDPOINTS = (FINAL, LOGITS)  # the thresholds were measured on these

Rows = Mapping[str, np.ndarray]  # split to its rows


class Compared(NamedTuple):
    """The near duplicates of a run.

    Attributes:
      result: `near_duplicates` of `result.json`.
      pairs: those whose pictures are saved.
      training: 'test' and, if compared, 'val' to the training images it was compared with.
    """

    result: dict[str, Any]
    pairs: list[near_duplicates.Pair]
    training: Mapping[str, Rows]

    @property
    def warnings(self) -> list[str]:
        """What to know before trusting the run's accuracy."""
        return near_duplicates.warnings(self.result) if "test" in self.result else []

    def save_pictures(
        self, workdir: Path, opened: Mapping[str, Source], image: Callable[[str, int], np.ndarray]
    ) -> None:
        """Writes the pictures of the pairs into the run's folder; only process 0 writes.

        Args:
          workdir: of the run, which has its folder of example images.
          opened: split to source.
          image: ('test' or 'val', row of the predictions) -> uint8 [H, W, 3].
        """
        if not hosts.is_first():
            return
        for pair in self.pairs:
            places = [(s, row) for s, rows in self.training[pair.split].items() for row in rows]
            split, row = places[pair.training_row]
            for file, pixels in zip(
                pair.files(), (image(pair.split, pair.row), opened[split][int(row)]["image"])
            ):
                save_picture(workdir / file, pixels)


def compare(
    stores: Mapping[str, FeatureStore],
    of_seeds: Mapping[int, Division[FeatureStore]],
    predictions: Predictions,
    log: Log,
) -> Compared:
    """Compares test with all images that a seed's head was fitted on, and val with train.

    Val is that of the first seed. In cross-validation it is a part of train and not compared.

    Args:
      stores: features of `train`, `test` and, where it is a split of its own, `val`.
      of_seeds: the rows of each seed.
      predictions: of these seeds.
      log: takes a line of text, where nothing is compared.
    """
    first = next(iter(of_seeds.values()))
    parts = first.parts
    fitted = [part for division in of_seeds.values() for part in division.fitted]
    training: dict[str, Rows] = {
        "test": {
            split: np.unique(np.concatenate(chosen))
            for split, store in stores.items()
            if (chosen := [rows for its, rows in fitted if its is store])
        }
    }
    if first.counts["val"]:
        training["val"] = {"train": parts["train"][1]}
    endpoint = next((name for name in _ENDPOINTS if name in stores["train"].widths), None)
    if endpoint is None:
        reason = (
            f"that needs features of {' or '.join(_ENDPOINTS)}, which the field extract.endpoints "
            "stores"
        )
    else:
        reason = _too_many(parts, training, stores["train"].widths[endpoint])
    if endpoint is None or reason:
        log(f"near duplicates of training images were not looked for: {reason}")
        return Compared({"not_looked_for": reason}, [], training)
    found: dict[str, Nearest] = {}
    for split, compared in training.items():
        store, rows = parts[split]
        bank = np.concatenate([stores[s].read(endpoint, r) for s, r in compared.items()])
        found[split] = near_duplicates.nearest(store.read(endpoint, rows), bank)
    names = {
        split: (
            np.concatenate([np.array(stores[s].ids())[r] for s, r in compared.items()]),
            np.concatenate([stores[s].labels()[r] for s, r in compared.items()]),
        )
        for split, compared in training.items()
    }
    pairs = near_duplicates.first_pairs(found)
    result = {
        "endpoint": endpoint,
        **near_duplicates.summary(found, predictions),
        "pairs": near_duplicates.describe(pairs, predictions, names),
    }
    return Compared(result, pairs, training)


def _too_many(
    parts: Mapping[str, tuple[FeatureStore, np.ndarray]], training: Mapping[str, Rows], width: int
) -> str:
    """Says how many multiplications are needed if they are too many; else ''."""
    pairs = sum(
        len(parts[split][1]) * sum(map(len, compared.values()))
        for split, compared in training.items()
    )
    if pairs * width <= MOST_PRODUCTS:
        return ""
    return f"{pairs * width:.1e} multiplications are more than {MOST_PRODUCTS:.0e}"
