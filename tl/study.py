"""Probes over numbers of examples and seeds; every pair is one run of the protocol."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tl.data import splits
from tl.errors import UserError
from tl.probes import protocol
from tl.probes.held_out import HeldOut
from tl.probes.seeds import summarise
from tl.probes.solvers import Head, Solver
from tl.store import FeatureStore


def run(
    stores: Mapping[str, FeatureStore],
    *,
    classes: Sequence[str],
    endpoints: Sequence[str],
    solvers: Sequence[Solver],
    examples_per_class: Sequence[int],
    seeds: Sequence[int],
    val_fraction: float | None,
    record: Callable[[Mapping[str, Any]], Any],
) -> dict[str, Any]:
    """Runs the protocol for every number of examples and every seed.

    Args:
      stores: features of `train`, `test` and, where val_fraction is None, `val`.
      classes: names, in the order of the labels.
      endpoints: of the stores; 'a+b' concatenates.
      solvers: to choose from on val.
      examples_per_class: of train and the val carved from it together; 0 is all there are.
      seeds: of the subset, the carving and the head.
      val_fraction: share of the chosen training rows that becomes val.
      record: takes each pair's outcome, once it is there.

    Returns:
      What `tl.probes.seeds.summarise` gives for the largest number of examples, its `counts` of
      rows, and under `study` the accuracy of every endpoint for every number of examples.

    Raises:
      UserError: too few examples; see the solvers.
    """
    summaries = {}
    for k in sorted(examples_per_class, key=lambda k: k or np.inf):
        results = {}
        for seed in seeds:
            rows = _rows(stores, k, seed, val_fraction)
            result = _cell(rows, len(classes), endpoints, solvers, seed)
            results[seed] = result
            outcome = {name: value for name, value in result.as_dict().items() if name != "grid"}
            record({"examples_per_class": k, "seed": seed, **outcome})
        counts = {split: len(chosen) for split, (_, chosen) in rows.items()}
        summaries[k] = {"counts": counts, **summarise(results)}
    return {
        **summaries[k],
        "study": [
            {
                "examples_per_class": k,
                "endpoint": row["endpoint"],
                "val_top1": row["val_top1"],
                "test_top1": row["test"]["top1"],
                "test_top1_ci95": row["test"]["top1_ci95"],
                "test_top1_range": [min(row["test"]["top1_seeds"]), max(row["test"]["top1_seeds"])],
                "test_top1_seeds": row["test"]["top1_seeds"],
            }
            for k, summary in summaries.items()
            for row in summary["endpoints"]
        ],
    }


def _rows(
    stores: Mapping[str, FeatureStore], k: int, seed: int, val_fraction: float | None
) -> dict[str, tuple[FeatureStore, np.ndarray]]:
    """Returns, for each part, the store it lies in and its rows there; corrupt images in none."""
    train, val = splits.train_and_val(stores["train"].labels(), k, val_fraction, seed)
    parts = {
        "train": (stores["train"], train),
        "val": _labelled(stores["val"]) if val is None else (stores["train"], val),
        "test": _labelled(stores["test"]),
    }
    for split, (_, rows) in parts.items():
        if not len(rows):
            raise UserError(f"no image is left for {split}; give more examples a class")
    return parts


def _labelled(store: FeatureStore) -> tuple[FeatureStore, np.ndarray]:
    return store, np.flatnonzero(store.labels() >= 0)


def _cell(
    rows: Mapping[str, tuple[FeatureStore, np.ndarray]],
    num_classes: int,
    endpoints: Sequence[str],
    solvers: Sequence[Solver],
    seed: int,
) -> protocol.Result:
    def features(endpoint: str, split: str) -> np.ndarray:
        store, chosen = rows[split]
        return store.read(endpoint, chosen)

    labels = {split: store.labels()[chosen] for split, (store, chosen) in rows.items()}
    return protocol.run(
        features,
        labels,
        endpoints,
        [dataclasses.replace(s, seed=seed) if isinstance(s, Head) else s for s in solvers],
        HeldOut(lambda endpoint: features(endpoint, "test"), labels.pop("test"), num_classes),
        num_classes=num_classes,
        test_every_endpoint=True,
    )
