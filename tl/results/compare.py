"""Compares runs with a baseline on the same test images, and tells differences from noise."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import tabulate
from jaxtyping import Int, Shaped

from tl import paths
from tl.errors import UserError
from tl.results import run as report_run
from tl.results.formats import points, setting, with_interval
from tl.results.intervals import Lead, McNemar, accuracy_interval, lead, mcnemar_exact
from tl.results.predictions import Predictions

SIGNIFICANT = 0.05  # a difference with a larger p may be noise


@dataclasses.dataclass(frozen=True)
class Contender:
    """A finished run to compare.

    Attributes:
      name: the run's folder, as the user gave it.
      what: the run's weights and what it selected, in words.
      predictions: of the run's heads.
    """

    name: str
    what: str
    predictions: Predictions


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A run compared with the baseline; all differences are run minus baseline.

    Attributes:
      run, baseline: the two runs.
      lead: the difference of their test top-1, each the mean over its seeds, with its 95 %
        interval (`tl.results.intervals.lead`).
      mcnemar: exact test of the first seed of each; `only_a` counts what only the run gets right.
    """

    run: Contender
    baseline: Contender
    lead: Lead
    mcnemar: McNemar

    @property
    def one_seed(self) -> bool:
        """Whether both have one seed, so that the exact test covers all predictions."""
        return all(len(x.predictions.seeds) == 1 for x in (self.run, self.baseline))

    @property
    def difference(self) -> float:
        """The difference of their test top-1, a fraction."""
        return self.lead.difference

    @property
    def ci95(self) -> tuple[float, float]:
        """The 95 % interval of the difference."""
        return self.lead.ci95

    @property
    def verdict(self) -> str:
        """'better', 'worse' or 'within noise'.

        If few images differ, the bootstrap interval is too short. Where the exact test covers the
        same predictions, it must find a difference too.
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
        """Returns the numbers, for JSON."""
        return {
            **_as_dict(self.run),
            "difference": self.difference,
            "difference_ci95": list(self.ci95),
            "difference_over": self.lead.over,
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
      UserError: there is no run, it is not finished, or its files are damaged; it is a study; or
        its kind saves no predictions.
    """
    found = report_run.read(paths.as_path(folder))
    if found.kind == "study":
        runs = [f"{folder}/{run['folder']}" for run in found.result["runs"]]
        raise UserError(
            f"{folder} is a study of {len(runs)} runs; name those to compare, such as "
            + " and ".join(runs[:2])
        )
    if found.kind not in ("probe", "finetune", "evaluate"):
        raise UserError(
            f"{folder} is a run of the kind {found.kind!r}, which saves no predictions; expected "
            "runs of experiments.probe, experiments.finetune or experiments.evaluate"
        )
    try:
        what = f"{found.result['weights']['name']}: {setting(found.result['selected'])}"
    except KeyError as error:
        raise UserError(
            f"{folder}/result.json lacks {error}, so another version wrote it; make the run again "
            "with --overwrite"
        ) from error
    return Contender(folder, what, found.predictions)


def compare(runs: Sequence[Contender]) -> list[Comparison]:
    """Returns a comparison of each run with the first, image by image.

    Raises:
      UserError: fewer than two runs, or their test images or labels differ.
    """
    if len(runs) < 2:
        raise UserError(f"expected two runs or more to compare, got {len(runs)}")
    baseline, *others = runs
    return [_compare(run, baseline, aligned(baseline, run)) for run in others]


def aligned(baseline: Contender, run: Contender) -> Int[np.ndarray, " n"]:
    """Returns the run's rows, int64 [N], in the order of the baseline's test images.

    Raises:
      UserError: the images or their labels differ.
    """
    a, b = baseline.predictions, run.predictions
    only_a, only_b = _missing(a.test_ids, b.test_ids), _missing(b.test_ids, a.test_ids)
    if len(only_a) or len(only_b):
        first, holder = (only_a[0], baseline) if len(only_a) else (only_b[0], run)
        raise UserError(
            "the runs were not tested on the same images, so they cannot be compared: "
            f"{len(only_a)} of the {len(a.test_ids)} of {baseline.name} are not among the "
            f"{len(b.test_ids)} of {run.name}, and {len(only_b)} the other way round; the first is "
            f"{first!r} of {holder.name}. Run both on the same data and splits"
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
    """Returns all numbers, for JSON."""
    return {
        "schema": report_run.SCHEMA,
        "kind": "comparison",
        "baseline": _as_dict(comparisons[0].baseline),
        "runs": [comparison.as_dict() for comparison in comparisons],
    }


def text(comparisons: Sequence[Comparison]) -> str:
    """Returns a table, a sentence for each comparison, and notes on how to read them."""
    baseline = comparisons[0].baseline
    rows = [[*_columns(baseline), "baseline"]]
    for c in comparisons:
        rows.append(
            [
                *_columns(c.run),
                points(c.difference, c.ci95),
                f"{c.mcnemar.only_a} : {c.mcnemar.only_b}",
                f"{c.mcnemar.p_value:.2g}",
            ]
        )
    headers = ["run", "what", "seeds", "test top-1 %", "difference", "only it : only baseline", "p"]
    table = tabulate.tabulate(rows, headers, disable_numparse=True)
    sentences = "\n".join(comparison.sentence() for comparison in comparisons)
    return "\n\n".join([table, sentences, "\n".join(_notes(comparisons))])


def _compare(run: Contender, baseline: Contender, order: Int[np.ndarray, " n"]) -> Comparison:
    ours, theirs = run.predictions.correct[:, order], baseline.predictions.correct
    groups = baseline.predictions.groups
    if groups is None and (of_run := run.predictions.groups) is not None:
        groups = of_run[order]
    seeds = run.predictions.seeds, baseline.predictions.seeds
    return Comparison(
        run, baseline, lead(ours, theirs, *seeds, groups), mcnemar_exact(ours[0], theirs[0])
    )


def _missing(ids: Shaped[np.ndarray, " n"], others: Shaped[np.ndarray, " m"]) -> list[str]:
    """Returns, sorted, the ids that occur more often in `ids` than in `others`."""
    return sorted(Counter(ids.tolist()) - Counter(others.tolist()))


def _top1(run: Contender) -> tuple[float, tuple[float, float]]:
    correct = run.predictions.correct.mean(axis=0)
    return float(correct.mean()), accuracy_interval(correct, groups=run.predictions.groups)


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
    return [
        run.name,
        run.what,
        str(len(run.predictions.seeds)),
        with_interval(*_top1(run)),
    ]


def _notes(comparisons: Sequence[Comparison]) -> list[str]:
    count = len(comparisons[0].baseline.predictions.test_ids)
    groups = comparisons[0].baseline.predictions.groups
    over = (
        "over these images: Wilson's for the accuracy of one seed, a bootstrap for a mean over "
        "seeds, a paired bootstrap for a difference."
        if groups is None
        else f"over their {len(np.unique(groups)):,} groups: bootstraps of whole groups, paired "
        "for a difference. McNemar's test takes images for independent, so its p is too small."
    )
    notes = [
        f"All have the same {count:,} test images. 95 % intervals {over}",
        "only it : only baseline: images that one gets right and the other does not; p: exact "
        "McNemar test of them.",
    ]
    if not all(c.one_seed for c in comparisons):
        notes.append(
            "With several seeds, accuracy is their mean; McNemar's test is of the first seed."
        )
    if over_seeds := [c.run.name for c in comparisons if c.lead.over_seeds]:
        notes.append(
            f"The difference of {', '.join(over_seeds)} has an interval over seeds and images: a "
            "bootstrap of both, which covers the luck of training."
        )
    for note in dict.fromkeys(c.lead.note for c in comparisons if not c.lead.over_seeds):
        notes.append(f"{note}. The interval of the difference is then over images alone.")
    return notes
