"""The training loop: update, log, evaluate, save, stop."""

import collections
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import jax

from tl.errors import UserError
from tl.train.state import TrainState

# Number of the latest steps whose metrics are not read yet, so that the host never waits for a step
# that it has just started.
_IN_FLIGHT = 2
_LEAST_FALL = 1e-3  # of the loss on val, as a share of it, that patience takes for progress


class Span(Protocol):
    """Steps from `start` up to and excluding `end`."""

    @property
    def start(self) -> int:
        """The first step."""

    @property
    def end(self) -> int:
        """The step after the last."""


S = TypeVar("S", bound=Span)


@dataclasses.dataclass(frozen=True)
class CompiledPhase:
    """Steps that train the same parameters.

    Attributes:
      start, end: first step, and step after the last.
      step: (state, batch) -> (state, metrics), compiled; reuses the memory of its state.
      enter: the state of the phase before -> the state of this one.
    """

    start: int
    end: int
    step: Callable[[TrainState, Any], tuple[TrainState, Mapping[str, jax.Array]]]
    enter: Callable[[TrainState], TrainState]


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How long a run is and how often it evaluates, saves and logs, in steps.

    Attributes:
      steps: updates of the whole run.
      steps_per_epoch: may be a fraction.
      eval_every: >= 1; the start and the last step are evaluated, too.
      checkpoint_every: interval of checkpoints beside those at evaluations; 0 for none.
      log_every: >= 1.
      patience: the run ends after this many evaluations without a better one, by val's accuracy or
        loss; 0 to never end early.
    """

    steps: int
    steps_per_epoch: float
    eval_every: int
    checkpoint_every: int = 0
    log_every: int = 1
    patience: int = 0

    def evaluates(self, step: int) -> bool:
        """Whether the state after `step` updates is evaluated."""
        return step % self.eval_every == 0 or step == self.steps

    def saves(self, step: int) -> bool:
        """Whether the state after `step` updates is saved, if it is not evaluated."""
        return bool(self.checkpoint_every) and step % self.checkpoint_every == 0


@dataclasses.dataclass
class Progress:
    """How far a run is: all that a checkpoint needs, beside the state, to resume it exactly.

    Attributes:
      position: of the training stream, after the last step.
      curve: a row for each evaluation: step, epoch, train_loss and train_top1 (means over the steps
        since the row before; None at the start), val_loss, val_top1 and so on.
      sums: `loss` and `top1`, summed over the steps since the last evaluation, and `steps`, their
        number.
      seconds: of training so far, evaluations included.
      waiting: seconds of these in which the host waited for the loader.
      total: seconds from the start of the run to the last save, without interruptions.
    """

    position: dict | None = None
    curve: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    waiting: float = 0.0
    total: float = 0.0

    def best(self) -> dict[str, Any]:
        """Returns the row with the highest val_top1, the latest of equals.

        Val is often too small to tell the last rows apart. The network that trained longer, to a
        lower learning rate, is then the better guess.
        """
        return max(self.curve, key=lambda row: (row["val_top1"], row["step"]))

    def has_evaluated(self, step: int) -> bool:
        """Whether the state after `step` updates has its row."""
        return bool(self.curve) and self.curve[-1]["step"] == step

    def out_of_patience(self, patience: int) -> bool:
        """Whether none of the last `patience` evaluations was better than all before them.

        Better has a higher val_top1, or a val_loss that is lower by more than _LEAST_FALL: on a
        small val the loss still falls while no other image comes out right.
        """
        if not patience:
            return False
        top1, loss, better = -1.0, math.inf, 0
        for number, row in enumerate(self.curve):
            if row["val_top1"] > top1 or row["val_loss"] < (1 - _LEAST_FALL) * loss:
                better = number
                top1, loss = max(top1, row["val_top1"]), min(loss, row["val_loss"])
        return len(self.curve) - better > patience

    def add_evaluation(
        self, step: int, steps_per_epoch: float, measured: Mapping[str, float]
    ) -> None:
        """Adds the row of an evaluation, and resets the sums."""
        steps = self.sums.get("steps")
        self.curve.append(
            {
                "step": step,
                "epoch": step / steps_per_epoch,
                "train_loss": self.sums["loss"] / steps if steps else None,
                "train_top1": self.sums["top1"] / steps if steps else None,
                **{f"val_{name}": value for name, value in measured.items()},
            }
        )
        self.sums = {}


class Interrupted(Exception):
    """The run was asked to stop, and has saved its last step."""

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


def fit(
    state: TrainState,
    progress: Progress,
    *,
    phases: Sequence[CompiledPhase],
    batches: Iterator[tuple[Any, dict]],
    cadence: Cadence,
    evaluate: Callable[[TrainState], Mapping[str, float]],
    save: Callable[[TrainState, Progress, Mapping[str, float] | None], None],
    record: Callable[[int, Mapping[str, float]], None],
    show: Callable[[float], None] = lambda loss: None,
    interrupted: Callable[[int], bool] = lambda step: False,
) -> TrainState:
    """Trains from `state` and `progress` to the end, or until patience runs out.

    Args:
      state: on the devices; its memory is reused, so it cannot be read afterwards.
      progress: is updated in place.
      phases: cover all steps, in order.
      batches: (batch on the devices, position after it), from `progress.position` on.
      cadence: when to evaluate, save and log.
      evaluate: state -> at least `loss` and `top1` on val.
      save: saves state and progress, with the metrics of an evaluation or None.
      record: takes the number of a step and scalars by name.
      show: takes the loss of each step, soon after it.
      interrupted: step -> whether to save and stop.

    Returns:
      The state after the last step.

    Raises:
      UserError: a training loss, a val loss or a gradient is not finite; that state is not saved.
      Interrupted: after saving.
    """
    step = resumed = int(state.step)
    started = time.perf_counter() - progress.seconds
    phase = phase_at(phases, max(step - 1, 0))
    pending: collections.deque[tuple[int, Mapping[str, jax.Array]]] = collections.deque()

    def read_metrics(in_flight: int = 0) -> None:
        """Reads, sums up and records the metrics of all but the latest `in_flight` steps."""
        while len(pending) > in_flight:
            number, arrays = pending.popleft()
            scalars = {name: float(value) for name, value in jax.device_get(arrays).items()}
            _check_finite(number, scalars)
            for name, value in (("loss", scalars["loss"]), ("top1", scalars["top1"]), ("steps", 1)):
                progress.sums[name] = progress.sums.get(name, 0) + value
            if number % cadence.log_every == 0 or number == cadence.steps:
                record(number, {f"train/{name}": value for name, value in scalars.items()})
            show(scalars["loss"])

    def checkpoint(measured: Mapping[str, float] | None) -> None:
        progress.seconds = time.perf_counter() - started
        save(state, progress, measured)

    while True:
        if cadence.evaluates(step) and not progress.has_evaluated(step):
            read_metrics()
            measured = evaluate(state)
            scalars = {f"val/{name}": value for name, value in measured.items()}
            _check_finite(step, scalars)  # a finite update may still ruin the network
            record(step, scalars)
            progress.add_evaluation(step, cadence.steps_per_epoch, measured)
            checkpoint(measured)
        if step == cadence.steps or progress.out_of_patience(cadence.patience):
            return state
        stop = interrupted(step)
        if (stop or cadence.saves(step)) and step > resumed and not cadence.evaluates(step):
            read_metrics()
            checkpoint(None)
        if stop:
            raise Interrupted(step)
        if phase is not (current := phase_at(phases, step)):
            phase, state = current, current.enter(state)
        asked = time.perf_counter()
        batch, progress.position = next(batches)
        progress.waiting += time.perf_counter() - asked
        state, values = phase.step(state, batch)
        step += 1
        for array in values.values():
            array.copy_to_host_async()
        pending.append((step, values))
        read_metrics(_IN_FLIGHT)


def phase_at(phases: Sequence[S], step: int) -> S:
    """Returns the phase of the update after the first `step`; the last one at the end."""
    return next((phase for phase in phases if phase.start <= step < phase.end), phases[-1])


def _check_finite(step: int, values: Mapping[str, float]) -> None:
    bad = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"step {step} is not finite: {', '.join(bad)}. The last checkpoint is from before; try "
            "a lower `optim.learning_rate`, a warm-up (`optim.warmup`), clipping "
            "(`optim.clip=1`) or, in bfloat16, float32"
        )
