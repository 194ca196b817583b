"""Judges the claims of a study: each holds, does not hold, or is within noise."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from tl.errors import UserError
from tl.results import formats
from tl.results.intervals import mcnemar_exact, paired_interval
from tl.results.predictions import Predictions
from tl.studies.plan import Claim


def judge(claim: Claim, rows: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Returns a claim with its verdict.

    The advised level is compared with the best of the others. The lead is the difference of their
    accuracies, each the mean over its seeds. Its 95 % interval is a paired bootstrap over the test
    images, or over their groups. A claim holds if the interval is above 0, and does not hold if it
    is below 0. If the interval includes 0, the two levels are within noise.

    Args:
      claim: to be judged.
      rows: the `runs` of `study.json`.
      folder: the study's folder, for the runs' predictions.

    Returns:
      An entry of `claims` in `study.json`. `verdict` is `holds`, `within noise`, `does not hold`
      or, while runs are missing, `undecided`. `difference` is the lead, a fraction, and `ci95` its
      interval.
    """
    verdict = {
        "text": claim.text,
        "where": dict(claim.where),
        "advised": {claim.axis: claim.advised},
        **dict.fromkeys(("best", "difference", "ci95", "p_value")),
    }
    try:
        correct, groups = _correct(claim, rows, folder)
    except UserError as error:
        return {**verdict, "verdict": "undecided", "why": str(error)}
    return verdict | _verdict(correct, claim.advised, groups)


def _correct(
    claim: Claim, rows: Sequence[Mapping[str, Any]], folder: Path
) -> tuple[dict[str, Float[np.ndarray, " n"]], Shaped[np.ndarray, " n"] | None]:
    """Returns level to float [N], the share of its runs that has each test image right; and groups.

    Raises:
      UserError: a run is missing or failed, or the test images or labels of two runs differ.
    """
    here = [row for row in rows if all(row["levels"][axis] == x for axis, x in claim.where.items())]
    if absent := [row["name"] for row in here if row["status"] != "done"]:
        raise UserError(f"{len(absent)} of {len(here)} runs are not finished, such as {absent[0]}")
    if len({row["levels"][claim.axis] for row in here}) < 2:
        raise UserError(f"there is no other {claim.axis} to compare with")
    correct: dict[str, list[np.ndarray]] = {}
    tested: tuple[np.ndarray, np.ndarray] | None = None
    for row in here:
        predictions = Predictions.load(folder / row["folder"])
        images = predictions.test_ids, predictions.classes[predictions.test_labels]
        for ours, first, what in zip(images, tested or images, ("images", "labels")):
            if not np.array_equal(ours, first):
                names = f"{here[0]['name']} and {row['name']}"
                raise UserError(f"{names} were tested on different {what}")
        tested = images
        of_level = correct.setdefault(row["levels"][claim.axis], [])
        of_level.append(predictions.correct.mean(axis=0))
    means = {level: np.mean(of_level, axis=0) for level, of_level in correct.items()}
    return means, predictions.groups


def _verdict(
    correct: Mapping[str, Float[np.ndarray, " n"]],
    advised: str,
    groups: Shaped[np.ndarray, " n"] | None,
) -> dict[str, Any]:
    means = {level: float(right.mean()) for level, right in correct.items()}
    others = [level for level in means if level != advised]
    other = max(others, key=lambda level: means[level])
    ours, theirs = correct[advised], correct[other]
    difference, low, high = paired_interval(ours, theirs, groups=groups)
    ahead = difference >= 0
    verdict = "holds" if low > 0 else "does not hold" if high < 0 else "within noise"
    of_groups = "" if groups is None else f" of {len(np.unique(groups)):,} groups"
    said = (
        f"{advised} has {formats.in_percent(means[advised])} %, "
        + ("the best of the others" if ahead else "the best")
        + f", {other}, {formats.in_percent(means[other])} %: {formats.points(difference)} points "
        f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f}, paired over {len(ours):,} test "
        f"images{of_groups})"
    )
    return {
        "verdict": verdict,
        "best": advised if ahead else other,
        "difference": difference,
        "ci95": [low, high],
        # Over images that one of the two levels has right in more of its runs than the other.
        "p_value": mcnemar_exact(ours > theirs, theirs > ours).p_value,
        "why": said + ("; within noise." if verdict == "within noise" else "."),
    }
