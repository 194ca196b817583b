"""One result out of several seeds' results on the same test rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tl.probes.held_out import Score
from tl.probes.protocol import Choice, Result, Tested
from tl.results.intervals import accuracy_interval


def mean_score(scores: Sequence[Score]) -> Score:
    """Averages scores of one test set.

    The interval is that of the seeds' mean correctness over the test rows, by a bootstrap
    (`accuracy_interval`). It tells how the mean would vary with other test rows; the spread of the
    seeds tells how it varies with other training rows.
    """
    correct = np.mean([score.correct for score in scores], axis=0)
    top5 = [score.top5 for score in scores if score.top5 is not None]
    return Score(
        correct=correct,
        top1=float(correct.mean()),
        top5=_mean(top5) if top5 else None,
        top1_ci95=accuracy_interval(correct, groups=scores[0].groups),
        mean_per_class=_mean(score.mean_per_class for score in scores),
        absent_classes=scores[0].absent_classes,
        count=scores[0].count,
        groups=scores[0].groups,
    )


def summarise(results: Mapping[int, Result]) -> dict[str, Any]:
    """Averages results of several seeds into the keys that `Result.as_dict` has.

    Args:
      results: seed to result, with the same endpoints, solvers and test rows.

    Returns:
      Means under 'val', 'test' and 'endpoints' (with 'top1_seeds', each seed's test top-1), all
      seeds' rows under 'grid' and 'ended' (each with its 'seed') and all 'warnings'. 'selected'
      is what most seeds selected, with the setting of the first of them; 'seeds' has every
      seed's own selection and test top-1, for 'test' is the mean over these.
    """
    chosen = [result.selected for result in results.values()]
    counts = Counter((choice.endpoint, choice.solver) for choice in chosen)
    ((endpoint, solver), _) = counts.most_common(1)[0]
    first = next(
        choice for choice in chosen if (choice.endpoint, choice.solver) == (endpoint, solver)
    )
    return {
        "selected": _name(first),
        "val": {
            "top1": _mean(choice.val_top1 for choice in chosen),
            **next(iter(results.values())).val_counts,
        },
        "test": _tested(chosen),
        "endpoints": [
            {
                "endpoint": choices[0].endpoint,
                "val_top1": _mean(choice.val_top1 for choice in choices),
                "test": _tested(choices),
            }
            for choices in zip(*(result.choices for result in results.values()), strict=True)
        ],
        "seeds": [
            {"seed": seed, **_name(result.selected), "test_top1": result.selected.test.top1}
            for seed, result in results.items()
        ],
        "grid": [{"seed": seed, **row} for seed, result in results.items() for row in result.grid],
        "ended": [
            {"seed": seed, **row} for seed, result in results.items() for row in result.ended
        ],
        "warnings": warnings(results),
    }


def warnings(results: Mapping[int, Result], endpoint: str | None = None) -> list[str]:
    """Returns the warnings of several seeds' results, each with its seed.

    Args:
      results: seed to result.
      endpoint: whose choices' warnings are returned; None for all endpoints'.
    """
    return [
        f"seed {seed}: {warning}"
        for seed, result in results.items()
        for choice in result.choices
        if endpoint in (None, choice.endpoint)
        for warning in choice.warnings
    ]


def _tested(choices: Sequence[Tested]) -> dict[str, Any]:
    mean = mean_score([choice.test for choice in choices]).as_dict()
    return mean | {"top1_seeds": [choice.test.top1 for choice in choices]}


def _name(choice: Choice) -> dict[str, Any]:
    return {"endpoint": choice.endpoint, "solver": choice.solver, **choice.setting}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
