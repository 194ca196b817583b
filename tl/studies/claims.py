"""Judges the claims of a study: each holds, does not hold, or is within noise."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from tl.errors import UserError
from tl.results import formats
from tl.results.intervals import Lead, lead, mcnemar_exact
from tl.results.predictions import Predictions
from tl.studies.plan import Claim


def judge(claim: Claim, rows: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Returns a claim with its verdict.

    The advised level is compared with the best of the others. The lead is the difference of their
    accuracies, each the mean over its seeds. Its 95 % interval is over seeds and test images, or
    groups of these (`tl.results.intervals.lead`). A claim holds if the interval is above 0, and
    does not hold if it is below 0. If the interval includes 0, the two levels are within noise.

    With fewer than five seeds the interval is over images alone, and the verdict says so wherever
    it is shown. It is still a verdict: it says which of these trained networks is better on more
    such images. A study of one or two seeds would have none otherwise, and there are settings in
    which hardly anything is left to chance, such as probes on all images.

    Args:
      claim: to be judged.
      rows: the `runs` of `study.json`.
      folder: the study's folder, for the runs' predictions.

    Returns:
      An entry of `claims` in `study.json`. `verdict` is `holds`, `within noise`, `does not hold`
      or, while runs are missing, `undecided`. `difference` is the lead, a fraction, and `ci95` its
      interval, which is over `over`, 'seeds and images' or 'images alone'. `seeds` is the number
      of seeds.
    """
    verdict = {
        "text": claim.text,
        "where": dict(claim.where),
        "advised": {claim.axis: claim.advised},
        **dict.fromkeys(("best", "difference", "ci95", "over", "seeds", "p_value")),
    }
    try:
        correct, groups = _correct(claim, rows, folder)
    except UserError as error:
        return {**verdict, "verdict": "undecided", "why": str(error)}
    return verdict | _verdict(correct, claim.advised, groups)


@dataclasses.dataclass(frozen=True)
class _Tested:
    """What the runs of one level have right.

    Attributes:
      seeds: int [S], sorted.
      correct: float [S, N], the share of a seed's runs that has each test image right.
    """

    seeds: Int[np.ndarray, " s"]
    correct: Float[np.ndarray, "s n"]


def _correct(
    claim: Claim, rows: Sequence[Mapping[str, Any]], folder: Path
) -> tuple[dict[str, _Tested], Shaped[np.ndarray, " n"] | None]:
    """Returns what each level has right, and the groups of the test images.

    Raises:
      UserError: a run is missing or failed, or the test images or labels of two runs differ.
    """
    here = [row for row in rows if all(row["levels"][axis] == x for axis, x in claim.where.items())]
    if absent := [row["name"] for row in here if row["status"] != "done"]:
        raise UserError(f"{len(absent)} of {len(here)} runs are not finished, such as {absent[0]}")
    if len({row["levels"][claim.axis] for row in here}) < 2:
        raise UserError(f"there is no other {claim.axis} to compare with")
    correct: dict[str, dict[int, list[np.ndarray]]] = {}
    tested: tuple[np.ndarray, np.ndarray] | None = None
    for row in here:
        predictions = Predictions.load(folder / row["folder"])
        images = predictions.test_ids, predictions.classes[predictions.test_labels]
        for ours, first, what in zip(images, tested or images, ("images", "labels")):
            if not np.array_equal(ours, first):
                names = f"{here[0]['name']} and {row['name']}"
                raise UserError(f"{names} were tested on different {what}")
        tested = images
        # Runs of one seed, on axes that the claim leaves open, are averaged: the seed is drawn.
        of_level = correct.setdefault(row["levels"][claim.axis], {})
        for seed, right in zip(predictions.seeds.tolist(), predictions.correct):
            of_level.setdefault(seed, []).append(right)
    levels = {
        level: _Tested(
            np.array(sorted(of_seeds)),
            np.stack([np.mean(of_seeds[seed], axis=0) for seed in sorted(of_seeds)]),
        )
        for level, of_seeds in correct.items()
    }
    return levels, predictions.groups


def _verdict(
    levels: Mapping[str, _Tested], advised: str, groups: Shaped[np.ndarray, " n"] | None
) -> dict[str, Any]:
    means = {level: float(tested.correct.mean()) for level, tested in levels.items()}
    others = [level for level in means if level != advised]
    other = max(others, key=lambda level: means[level])
    ours, theirs = levels[advised], levels[other]
    found = lead(ours.correct, theirs.correct, ours.seeds, theirs.seeds, groups)
    low, high = found.ci95
    ahead = found.difference >= 0
    verdict = "holds" if low > 0 else "does not hold" if high < 0 else "within noise"
    said = (
        f"{advised} has {formats.in_percent(means[advised])} %, "
        + ("the best of the others" if ahead else "the best")
        + f", {other}, {formats.in_percent(means[other])} %: {formats.points(found.difference)} "
        f"points (95 % interval {100 * low:+.1f} to {100 * high:+.1f}, paired over "
        f"{_over(found, ours.correct.shape[1], groups)})"
    )
    shares = ours.correct.mean(axis=0), theirs.correct.mean(axis=0)
    return {
        "verdict": verdict,
        "best": advised if ahead else other,
        "difference": found.difference,
        "ci95": [low, high],
        "over": found.over,
        "seeds": found.seeds,
        # Over images that one of the two levels has right in more of its runs than the other.
        "p_value": mcnemar_exact(shares[0] > shares[1], shares[1] > shares[0]).p_value,
        "why": said + ("; within noise." if verdict == "within noise" else "."),
    }


def _over(found: Lead, images: int, groups: Shaped[np.ndarray, " n"] | None) -> str:
    """Says what an interval is over."""
    of_groups = "" if groups is None else f" of {len(np.unique(groups)):,} groups"
    what = f"{images:,} test images{of_groups}"
    return f"{found.seeds} seeds and {what}" if found.over_seeds else f"{what} alone; {found.note}"
