"""Runs the probe protocol for every number of examples and every seed."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tl.features.store import FeatureStore
from tl.probes import protocol
from tl.probes.held_out import HeldOut
from tl.probes.seeds import summarise
from tl.probes.solvers import SOLVERS, Solver
from tl.results import calibration
from tl.results.predictions import Predictions
from tl.results.projection import Projection, project, spaced_rows
from tl.runs.parts import Division, divide_for_probe, stored


class Headline(NamedTuple):
    """Results at the largest number of examples per class, which the first numbers of a run show.

    Attributes:
      results: of each seed.
      division: the rows of the first seed.
      groups: str [N], the named groups of the N test rows; None without groups.
    """

    results: Mapping[int, protocol.Result]
    division: Division[FeatureStore]
    groups: np.ndarray | None = None

    def predictions(self, classes: Sequence[str]) -> Predictions:
        """Returns the predictions of the selected heads on test, and of the first seed's on val."""
        test, val = zip(*(result.logits for result in self.results.values()), strict=True)
        (test_ids, test_labels), (val_ids, val_labels) = map(self._names, ("test", "val"))
        return Predictions(
            seeds=np.array(list(self.results)),
            classes=np.array(classes),
            test_ids=test_ids,
            test_labels=test_labels,
            test_predicted=np.stack([logits.argmax(axis=1) for logits in test]),
            test_logits=test[0],
            val_ids=val_ids,
            val_labels=val_labels,
            val_logits=val[0],
            test_groups=self.groups,
        )

    def projection(self) -> Projection:
        """Returns features of some test rows, at the endpoint that the first seed selected."""
        selected = next(iter(self.results.values())).selected
        store, rows = self.division.parts["test"]
        spaced = spaced_rows(len(rows))
        features = store.read(selected.endpoint, rows[spaced])
        standardise = SOLVERS[selected.solver].standardises
        return project(features, spaced, selected.endpoint, standardise)

    def temperature(self, result: protocol.Result) -> float:
        """Returns the temperature of calibrated probabilities of one seed's selected head."""
        _, labels = self._names("val")
        _, logits = result.logits
        return calibration.fit(logits, labels).temperature

    def _names(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        store, rows = self.division.parts[split]
        return np.array(store.ids())[rows], store.labels()[rows]


def divisions(
    stores: Mapping[str, FeatureStore],
    *,
    examples_per_class: Sequence[int],
    seeds: Sequence[int],
    val_fraction: float | None,
    folds: int | None = None,
    groups: np.ndarray | None = None,
) -> dict[int, dict[int, Division[FeatureStore]]]:
    """Returns the rows of every run of the protocol.

    Args:
      stores: features of `train`, `test` and, where it is a split of its own, `val`.
      examples_per_class: of train and the val carved from it together; 0 is all there are.
      seeds: of the subset, the carving and the head.
      val_fraction, folds, groups: see `tl.runs.parts.divide_for_probe`.

    Returns:
      By number of examples, the largest last, and by seed.

    Raises:
      UserError: too few examples.
    """
    return {
        k: {seed: divide_for_probe(stores, k, seed, val_fraction, folds, groups) for seed in seeds}
        for k in sorted(examples_per_class, key=lambda k: k or np.inf)
    }


def run(
    divisions: Mapping[int, Mapping[int, Division[FeatureStore]]],
    *,
    classes: Sequence[str],
    endpoints: Sequence[str],
    solvers: Sequence[Solver],
    record: Callable[[Mapping[str, Any]], Any],
    groups: np.ndarray | None = None,
) -> tuple[dict[str, Any], Headline]:
    """Runs the protocol for every number of examples and every seed.

    Args:
      divisions: as the function of that name returns them.
      classes: names, in the order of the labels.
      endpoints: of the stores; 'a+b' concatenates.
      solvers: to choose from on val.
      record: takes each pair's outcome, once it is there.
      groups: str [M], the named groups of all rows of the test split; None without groups.

    Returns:
      What `tl.probes.seeds.summarise` gives for the largest number of examples, its `counts` of
      rows, and under `study` the accuracy of every endpoint for every number of examples; and
      what that largest number's summary was made of.

    Raises:
      UserError: see the solvers.
    """
    summaries = {}
    for k, of_seeds in divisions.items():
        results = {}
        for seed, division in of_seeds.items():
            tested = None if groups is None else groups[division.parts["test"][1]]
            result = _cell(division, len(classes), endpoints, solvers, seed, tested)
            results[seed] = result
            outcome = {
                name: value
                for name, value in result.as_dict().items()
                if name not in ("grid", "ended")
            }
            record({"examples_per_class": k, "seed": seed, **outcome})
        headline = Headline(results, next(iter(of_seeds.values())), tested)
        summaries[k] = {"counts": headline.division.counts, **summarise(results)}
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
    }, headline


def _cell(
    division: Division[FeatureStore],
    num_classes: int,
    endpoints: Sequence[str],
    solvers: Sequence[Solver],
    seed: int,
    groups: np.ndarray | None,
) -> protocol.Result:
    test, test_rows = division.parts["test"]
    return protocol.run(
        partial(stored, division.fitted),
        np.concatenate([store.labels()[rows] for store, rows in division.fitted]),
        division.folds,
        endpoints,
        [solver.with_seed(seed) for solver in solvers],
        HeldOut(
            partial(stored, [division.parts["test"]]),
            test.labels()[test_rows],
            num_classes,
            groups,
        ),
        num_classes=num_classes,
        test_every_endpoint=True,
    )
