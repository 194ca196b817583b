"""Whether a study bears out what was claimed of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tl.errors import UserError
from tl.results import formats
from tl.results.intervals import mcnemar_exact, paired_interval
from tl.results.predictions import Predictions
from tl.studies.plan import Claim


def judge(claim: Claim, rows: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Returns a claim with its verdict.

    A claim holds where the advised level leads the best other one by more than noise: the paired
    95 % bootstrap interval of its lead over test images, on correctness averaged over the seeds, is
    above 0. It does not hold where that interval is below 0; where it includes 0, the two are
    within noise, whichever is ahead.

    Args:
      claim: to be judged.
      rows: `runs` of `study.json`.
      folder: of the study, for the runs' predictions.

    Returns:
      As `claims` of `study.json`; `verdict` is `holds`, `within noise`, `does not hold` or, while
      runs are missing, `undecided`; `difference` is the advised level's accuracy less that of the
      best other level, a fraction, with its interval `ci95`.
    """
    verdict = {
        "text": claim.text,
        "where": dict(claim.where),
        "advised": {claim.axis: claim.advised},
        **dict.fromkeys(("best", "difference", "ci95", "p_value")),
    }
    try:
        correct = _correct(claim, rows, folder)
    except UserError as error:
        return {**verdict, "verdict": "undecided", "why": str(error)}
    return verdict | _verdict(correct, claim.advised)


def _correct(
    claim: Claim, rows: Sequence[Mapping[str, Any]], folder: Path
) -> dict[str, np.ndarray]:
    """Returns, by level, the share of its runs that has each test image right, float [N].

    Raises:
      UserError: a run is missing or failed; or the runs were tested on different images, or on
        images with different labels.
    """
    here = [row for row in rows if all(row["levels"][axis] == x for axis, x in claim.where.items())]
    if absent := [row["name"] for row in here if row["status"] != "done"]:
        raise UserError(f"{len(absent)} of {len(here)} runs are not finished, such as {absent[0]}")
    if len({row["levels"][claim.axis] for row in here}) < 2:
        raise UserError(f"there is no other {claim.axis} to compare with")
    tested, correct = None, {}
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
    return {level: np.mean(of_level, axis=0) for level, of_level in correct.items()}


def _verdict(correct: Mapping[str, np.ndarray], advised: str) -> dict[str, Any]:
    means = {level: right.mean() for level, right in correct.items()}
    others = [level for level in means if level != advised]
    other = max(others, key=means.get)
    ours, theirs = correct[advised], correct[other]
    difference, low, high = paired_interval(ours, theirs)
    ahead = difference >= 0
    verdict = "holds" if low > 0 else "does not hold" if high < 0 else "within noise"
    said = (
        f"{advised} has {formats.in_percent(means[advised])} %, "
        + ("the best of the others" if ahead else "the best")
        + f", {other}, {formats.in_percent(means[other])} %: {formats.points(difference)} points "
        f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f}, paired over {len(ours):,} test "
        "images)"
    )
    return {
        "verdict": verdict,
        "best": advised if ahead else other,
        "difference": difference,
        "ci95": [low, high],
        # Images that one of the two has right in more of its runs, as if by a fair coin.
        "p_value": mcnemar_exact(ours > theirs, theirs > ours).p_value,
        "why": said + ("; within noise." if verdict == "within noise" else "."),
    }
