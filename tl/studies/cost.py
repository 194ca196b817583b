"""The costs of a study's runs, in words, and the time they take, by the runs that are finished."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tl.data import sources
from tl.data.sources import Data
from tl.errors import UserError
from tl.results.formats import duration
from tl.runs import options
from tl.runs.cost import Cost, Images, Speed, cost_of, time_of
from tl.studies.plan import Plan, Run


class Estimator:
    """Costs of runs; opens each data set once, for its labels."""

    def __init__(self) -> None:
        self._images: dict[Data, Images | UserError] = {}

    def cost(self, run: Run) -> Cost:
        """Returns what a run costs.

        Raises:
          UserError: the data are not at hand, or the config is wrong.
        """
        return cost_of(run.kind, run.config, self._images_of(options.data(run.config)))

    def known_cost(self, run: Run) -> Cost | None:
        """Returns what a run costs, or None if it cannot be known before the run."""
        try:
            return self.cost(run)
        except Exception:  # whatever is wrong, the run itself will say it
            return None

    def _images_of(self, data: Data) -> Images:
        data = dataclasses.replace(data, download=False)
        if data not in self._images:
            try:
                self._images[data] = Images.of(sources.open_sources(data))
            except UserError as error:
                self._images[data] = error
        if isinstance(images := self._images[data], UserError):
            raise images
        return images


def line(cost: Cost | None) -> str:
    """Returns what one run costs, in words."""
    if cost is None:
        return "data not at hand"
    if not cost.steps:
        return f"features of {cost.extracted:,} images at {cost.size} px"
    return f"{cost.steps:,} steps at {cost.size} px, {cost.evaluated:,} images to evaluate on"


def describe(plan: Plan, costs: Mapping[str, Cost | None], seconds: Mapping[str, float]) -> str:
    """Returns what a study costs, in a few lines.

    Args:
      plan: the study.
      costs: name of each run to its cost; None if that cannot be known yet.
      seconds: name of each finished run to how long it took.
    """
    left = [run for run in plan.runs if run.name in plan.chosen and run.name not in seconds]
    extracted = {run.extraction for run in plan.runs if run.name in seconds}
    kinds = collections.Counter(run.kind for run in plan.runs)
    known = [found for run in left if (found := costs[run.name])]
    extractions = {
        run.extraction: costs[run.name]
        for run in left
        if run.extraction and run.extraction not in extracted
    }
    images = sum(found.extracted for found in extractions.values() if found)
    lines = [
        f"{plan.title}: {len(plan.runs)} runs ("
        + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        + f"), {len(seconds)} finished, {len(left)} to do now",
        f"extractions to do, each shared: {len(extractions)}, of {images:,} images in all",
        f"training: {sum(found.steps for found in known):,} steps, "
        f"{sum(found.trained for found in known):,} images forward and backward, "
        f"{sum(found.evaluated for found in known):,} to evaluate on",
    ]
    if unknown := sum(costs[run.name] is None for run in left):
        lines.append(f"not counted: {unknown} runs whose data are not at hand")
    expected = Pace(plan, costs, seconds).seconds(left)
    lines.append(
        "seconds: unknown until a run of each kind is finished"
        if expected is None
        else f"about {duration(expected)} left for one process, by the runs that are finished"
    )
    return "\n".join(lines)


class Pace:
    """How long runs take, by those that are finished."""

    def __init__(self, plan: Plan, costs: Mapping[str, Cost | None], seconds: Mapping[str, float]):
        """Takes the same arguments as `describe`."""
        self._costs = costs
        self._same: dict[Any, list[float]] = collections.defaultdict(list)
        finished: dict[str, list[Run]] = collections.defaultdict(list)
        for run in plan.runs:
            if run.name in seconds:
                self._same[_without_seed(run)].append(seconds[run.name])
                finished[run.kind].append(run)
        self._speeds = {
            kind: Speed(
                sum(self._cost(run).work() for run in runs) / sum(seconds[run.name] for run in runs)
            )
            for kind, runs in finished.items()
        }

    def seconds(self, runs: Sequence[Run]) -> float | None:
        """Returns how long runs would take one after the other, or None if nothing tells.

        A run takes as long as the same run with another seed did. If there is none, it is as fast
        as the finished runs of its kind, by the pixels that they put through a network.
        """
        if any(run.kind not in self._speeds for run in runs):
            return None
        return float(
            sum(
                np.mean(same)
                if (same := self._same.get(_without_seed(run)))
                else time_of(self._cost(run), self._speeds[run.kind])
                for run in runs
            )
        )

    def _cost(self, run: Run) -> Cost:
        """Returns what a run costs; if that is not known, the least there is."""
        return self._costs[run.name] or Cost(0, 0, 0, 0, 1)


def _without_seed(run: Run) -> tuple[Any, ...]:
    return tuple(level for axis, level in run.levels.items() if axis != "seed")
