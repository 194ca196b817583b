"""Runs beside a baseline on the same test images: who is better, and whether that is noise."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tabulate

from tl import metrics
from tl.errors import UserError
from tl.results import run as report_run
from tl.results.formats import setting
from tl.results.intervals import McNemar, mcnemar_exact, paired_interval
from tl.results.predictions import Predictions

SCHEMA = 1
SIGNIFICANT = 0.05  # largest p of a difference that is called one


@dataclasses.dataclass(frozen=True)
class Contender:
    """A finished run and what its heads got right.

    Attributes:
      name: as the user gave it.
      what: its weights and what was selected.
      predictions: of its heads.
    """

    name: str
    what: str
    predictions: Predictions


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A run against the baseline; all differences are the run's minus the baseline's.

    Attributes:
      run, baseline: which.
      difference: of test top-1, each the mean over its seeds, a fraction.
      ci95: paired bootstrap interval of it over the test images.
      mcnemar: exact test of the first seed of each, `only_a` what only the run gets right.
    """

    run: Contender
    baseline: Contender
    difference: float
    ci95: tuple[float, float]
    mcnemar: McNemar

    @property
    def one_seed(self) -> bool:
        """Whether both have one seed, so that the exact test is of all there is."""
        return all(len(x.predictions.seeds) == 1 for x in (self.run, self.baseline))

    @property
    def verdict(self) -> str:
        """'better', 'worse' or 'within noise'.

        An interval of few images that differ is too short, so where the exact test speaks of the
        same predictions it must agree.
        """
        low, high = self.ci95
        doubtful = self.one_seed and self.mcnemar.p_value >= SIGNIFICANT
        if low <= 0 <= high or doubtful:
            return "within noise"
        return "better" if self.difference > 0 else "worse"

    def sentence(self) -> str:
        """Says the verdict, in percentage points."""
        low, high = (100 * end for end in self.ci95)
        points = 100 * self.difference
        if self.verdict == "within noise":
            return (
                f"{self.run.name} and {self.baseline.name} are within noise of each other: a "
                f"difference of {points:+.1f} points ({low:+.1f} to {high:+.1f})."
            )
        if self.verdict == "worse":
            points, low, high = -points, -high, -low
        return (
            f"{self.run.name} is {points:.1f} points {self.verdict} than {self.baseline.name} "
            f"({low:.1f} to {high:.1f})."
        )

    def as_dict(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        return {
            **_as_dict(self.run),
            "difference": self.difference,
            "difference_ci95": list(self.ci95),
            "mcnemar": {
                "seeds": [int(x.predictions.seeds[0]) for x in (self.run, self.baseline)],
                "only_run": self.mcnemar.only_a,
                "only_baseline": self.mcnemar.only_b,
                "p_value": self.mcnemar.p_value,
            },
            "verdict": self.verdict,
            "sentence": self.sentence(),
        }


def read(folder: str) -> Contender:
    """Returns the run in a folder.

    Raises:
      UserError: there is none, it is not finished or damaged, or it is a study or of a kind that
        leaves no predictions.
    """
    found = report_run.read(Path(folder).expanduser())
    if found.kind == "study":
        runs = [f"{folder}/{run['folder']}" for run in found.result["runs"]]
        raise UserError(
            f"{folder} is a study of {len(runs)} runs; name those to compare, such as "
            + " and ".join(runs[:2])
        )
    if found.kind not in ("probe", "finetune"):
        raise UserError(
            f"{folder} is a run of the kind {found.kind!r}, which leaves no predictions; expected "
            "runs of experiments.probe or experiments.finetune"
        )
    try:
        what = f"{found.result['weights']['name']}: {setting(found.result['selected'])}"
    except KeyError as error:
        raise UserError(
            f"{folder}/result.json lacks {error}, as of another version; make the run again with "
            "--overwrite"
        ) from error
    return Contender(folder, what, found.predictions)


def compare(runs: Sequence[Contender]) -> list[Comparison]:
    """Returns a comparison of each run with the first, image by image.

    Raises:
      UserError: fewer than two runs, or they were not tested on the same images with the same
        labels.
    """
    if len(runs) < 2:
        raise UserError(f"expected two runs or more to compare, got {len(runs)}")
    baseline, *others = runs
    return [_compare(run, baseline, aligned(baseline, run)) for run in others]


def aligned(baseline: Contender, run: Contender) -> np.ndarray:
    """Returns the rows, int64 [N], of a run's test images in the order of the baseline's.

    Raises:
      UserError: the images or their labels are not the same.
    """
    a, b = baseline.predictions, run.predictions
    only_a, only_b = _missing(a.test_ids, b.test_ids), _missing(b.test_ids, a.test_ids)
    if len(only_a) or len(only_b):
        first, holder = (only_a[0], baseline) if len(only_a) else (only_b[0], run)
        raise UserError(
            "the runs were not tested on the same images, so they cannot be compared: "
            f"{len(only_a)} of the {len(a.test_ids)} of {baseline.name} are not among the "
            f"{len(b.test_ids)} of {run.name}, and {len(only_b)} the other way round; the first is "
            f"{first!r} of {holder.name}. Run both with the same --config.data"
        )
    order = np.empty(len(a.test_ids), np.int64)
    order[np.argsort(a.test_ids, kind="stable")] = np.argsort(b.test_ids, kind="stable")
    labels_a, labels_b = a.classes[a.test_labels], b.classes[b.test_labels][order]
    if len(rows := np.flatnonzero(labels_a != labels_b)):
        first = rows[0]
        raise UserError(
            f"the labels of {len(rows)} of {len(labels_a)} test images differ, so the runs cannot "
            f"be compared: the first is {str(a.test_ids[first])!r}, {str(labels_a[first])!r} in "
            f"{baseline.name} and {str(labels_b[first])!r} in {run.name}. Run both on the same data"
        )
    return order


def as_dict(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Returns all numbers, as JSON."""
    return {
        "schema": SCHEMA,
        "kind": "comparison",
        "baseline": _as_dict(comparisons[0].baseline),
        "runs": [comparison.as_dict() for comparison in comparisons],
    }


def text(comparisons: Sequence[Comparison]) -> str:
    """Returns the table, a sentence for each comparison, and what to know of them."""
    baseline = comparisons[0].baseline
    rows = [[*_columns(baseline), "baseline"]]
    for c in comparisons:
        low, high = c.ci95
        rows.append(
            [
                *_columns(c.run),
                f"{100 * c.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
                f"{c.mcnemar.only_a} : {c.mcnemar.only_b}",
                f"{c.mcnemar.p_value:.2g}",
            ]
        )
    headers = ["run", "what", "seeds", "test top-1 %", "difference", "only it : only baseline", "p"]
    table = tabulate.tabulate(rows, headers, disable_numparse=True)
    sentences = "\n".join(comparison.sentence() for comparison in comparisons)
    return "\n\n".join([table, sentences, "\n".join(_notes(comparisons))])


def _compare(run: Contender, baseline: Contender, order: np.ndarray) -> Comparison:
    ours, theirs = run.predictions.correct[:, order], baseline.predictions.correct
    difference, low, high = paired_interval(ours.mean(axis=0), theirs.mean(axis=0))
    return Comparison(run, baseline, difference, (low, high), mcnemar_exact(ours[0], theirs[0]))


def _missing(ids: np.ndarray, others: np.ndarray) -> list[str]:
    """Returns the ids that are more often in `ids` than in `others`, sorted."""
    values, counts = np.unique(ids, return_counts=True)
    there = dict(zip(*np.unique(others, return_counts=True), strict=True))
    return [str(v) for v, count in zip(values, counts, strict=True) if count > there.get(v, 0)]


def _top1(run: Contender) -> tuple[float, tuple[float, float]]:
    correct = run.predictions.correct.mean(axis=0)
    return float(correct.mean()), metrics.bootstrap_interval(correct)


def _as_dict(run: Contender) -> dict[str, Any]:
    top1, ci95 = _top1(run)
    return {
        "run": run.name,
        "what": run.what,
        "seeds": run.predictions.seeds.tolist(),
        "count": len(run.predictions.test_ids),
        "test_top1": top1,
        "test_top1_ci95": list(ci95),
    }


def _columns(run: Contender) -> list[str]:
    top1, (low, high) = _top1(run)
    return [
        run.name,
        run.what,
        str(len(run.predictions.seeds)),
        f"{100 * top1:.1f} ({100 * low:.1f}-{100 * high:.1f})",
    ]


def _notes(comparisons: Sequence[Comparison]) -> list[str]:
    count = len(comparisons[0].baseline.predictions.test_ids)
    notes = [
        f"The same {count:,} test images; 95 % bootstrap intervals over them, differences paired.",
        "only it : only baseline: images that one gets right and the other does not; p: exact "
        "McNemar test of them.",
    ]
    if not all(c.one_seed for c in comparisons):
        notes.append("Of several seeds, accuracy is the mean; McNemar's test is of the first seed.")
    if any(c.one_seed for c in comparisons):
        notes.append("Of one seed each, nothing here tells how much another seed would change.")
    return notes
