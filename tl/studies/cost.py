"""What runs cost: how many images go through a network, before any does."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tl.data import sources, splits
from tl.data.sources import Data
from tl.errors import UserError
from tl.results.formats import duration
from tl.runs import options
from tl.studies.plan import Plan, Run
from tl.weights import catalog

_USUAL_SIZE = 224  # of images, where a weight file says it only when it is read
_TRAINING = 3  # passes that a training step is worth: forward, and twice as much backward


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one run costs.

    Attributes:
      steps: updates.
      trained: images through forward and backward pass.
      evaluated: images through the forward pass, to choose and to test.
      read: images whose features it reads; what runs share counts for each.
      size: side of the images, pixels.
    """

    steps: int
    trained: int
    evaluated: int
    read: int
    size: int

    @property
    def work(self) -> float:
        """Pixels through a forward pass, a training step counted as three; at least one image."""
        return self.size**2 * (1 + _TRAINING * self.trained + self.evaluated + self.read)


class Estimator:
    """Costs of runs; opens each data set once, for its labels."""

    def __init__(self):
        self._opened: dict[Data, dict[str, sources.Source] | UserError] = {}

    def cost(self, run: Run) -> Cost:
        """Returns what a run costs.

        Raises:
          UserError: the data are not at hand, or the config is wrong.
        """
        config, opened = run.config, self._open(options.data(run.config))
        read = sum(map(len, opened.values())) if run.extraction else 0
        if run.kind == "probe":
            return Cost(0, 0, 0, read, _size(config))
        train, val = splits.train_and_val(
            opened["train"].labels(),
            options.examples_per_class(config),
            None if "val" in opened else options.data(config).val_fraction,
            options.seed(config),
        )
        num_val = len(opened["val"]) if val is None else len(val)
        recipe = options.recipe(config, len(train), opened["train"].image_shape)
        cadence = recipe.cadence
        evaluations = 1 + -(-cadence.steps // cadence.eval_every)  # before the first step, too
        return Cost(
            steps=cadence.steps,
            trained=cadence.steps * recipe.batch_size,
            evaluated=evaluations * num_val + len(opened["test"]),
            read=read,
            size=recipe.overrides.size or _size(config),
        )

    def known_cost(self, run: Run) -> Cost | None:
        """Returns what a run costs, or None where that is not known before its data are there."""
        try:
            return self.cost(run)
        except Exception:  # of whatever kind: the run itself says it, and the others go on
            return None

    def _open(self, data: Data) -> dict[str, sources.Source]:
        data = dataclasses.replace(data, download=False)
        if data not in self._opened:
            try:
                self._opened[data] = sources.open_sources(data)
            except UserError as error:
                self._opened[data] = error
        if isinstance(opened := self._opened[data], UserError):
            raise opened
        return opened


def _size(config: ConfigDict) -> int:
    if config.preprocess.size:
        return config.preprocess.size
    known = config.weights_like or config.weights
    return catalog.get(known).preprocessing.size if known in catalog.names() else _USUAL_SIZE


def line(cost: Cost | None) -> str:
    """Returns what one run costs, in words."""
    if cost is None:
        return "data not at hand"
    if not cost.steps:
        return f"features of {cost.read:,} images at {cost.size} px"
    return f"{cost.steps:,} steps at {cost.size} px, {cost.evaluated:,} images to evaluate on"


def describe(plan: Plan, costs: Mapping[str, Cost | None], seconds: Mapping[str, float]) -> str:
    """Returns what a study comes to, in a few lines.

    Args:
      plan: the study.
      costs: of each run by name; None where it cannot be known yet.
      seconds: measured, of each run that is finished.
    """
    left = [run for run in plan.runs if run.name in plan.chosen and run.name not in seconds]
    extracted = {run.extraction for run in plan.runs if run.name in seconds}
    kinds = collections.Counter(run.kind for run in plan.runs)
    known = [costs[run.name] for run in left if costs[run.name]]
    extractions = {
        run.extraction: costs[run.name]
        for run in left
        if run.extraction and run.extraction not in extracted
    }
    images = sum(cost.read for cost in extractions.values() if cost)
    lines = [
        f"{plan.title}: {len(plan.runs)} runs ("
        + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        + f"), {len(seconds)} finished, {len(left)} to do now",
        f"extractions to do, each shared: {len(extractions)}, of {images:,} images in all",
        f"training: {sum(cost.steps for cost in known):,} steps, "
        f"{sum(cost.trained for cost in known):,} images forward and backward, "
        f"{sum(cost.evaluated for cost in known):,} to evaluate on",
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
        """Takes the study, costs by run and the seconds of finished runs."""
        self._costs = costs
        self._same, self._work = collections.defaultdict(list), collections.defaultdict(float)
        self._seconds = collections.defaultdict(float)
        for run in plan.runs:
            if run.name in seconds:
                self._same[_without_seed(run)].append(seconds[run.name])
                self._seconds[run.kind] += seconds[run.name]
                self._work[run.kind] += _work(costs[run.name])

    def seconds(self, runs: Sequence[Run]) -> float | None:
        """Returns how long runs would take one after the other, or None where nothing tells.

        A run takes as long as the same with another seed did; or else what runs of its kind did,
        by the pixels that they put through a network.
        """
        if any(run.kind not in self._seconds for run in runs):
            return None
        return float(
            sum(
                np.mean(same)
                if (same := self._same.get(_without_seed(run)))
                else self._seconds[run.kind] * _work(self._costs[run.name]) / self._work[run.kind]
                for run in runs
            )
        )


def _work(cost: Cost | None) -> float:
    return cost.work if cost else 1.0


def _without_seed(run: Run) -> tuple[Any, ...]:
    return tuple(level for axis, level in run.levels.items() if axis != "seed")
