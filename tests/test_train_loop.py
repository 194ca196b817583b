"""The loop with steps that are counted on fingers: step n has loss n and top1 1 / n."""

import copy
import dataclasses
import math

import jax.numpy as jnp
import pytest

from tl.errors import UserError
from tl.train.loop import Cadence, CompiledPhase, Interrupted, Progress, fit


@dataclasses.dataclass(frozen=True)
class State:
    step: int
    phase: str


class Toy:
    """A run that writes down, in `events`, what is asked of it."""

    def __init__(
        self, cadence, *, phases=((0, 99, "a"),), top1=None, loss=None, spoilt=None, stop_at=None
    ):
        self.cadence, self.stop_at = cadence, stop_at
        self.top1 = top1 or (lambda step: step / 100)
        self.loss = loss or (lambda step: 10.0 * step)
        self.spoilt = spoilt or {}
        self.phases = [self.phase(*phase) for phase in phases]
        self.events, self.saved, self.shown, self.records = [], [], [], []

    def phase(self, start, end, name):
        def step(state, batch):
            assert state.phase == name and batch == state.step
            number = state.step + 1
            self.events.append(f"start {number}")
            values = {"loss": number, "top1": 1 / number, "grad_norm": 1.0}
            values |= self.spoilt.get(number, {})
            values = {key: jnp.float32(value) for key, value in values.items()}
            return State(number, name), values

        def enter(state):
            self.events.append(f"enter {name}")
            return dataclasses.replace(state, phase=name)

        return CompiledPhase(start, end, step, enter)

    def batches(self, position):
        number = position["next"] if position else 0
        while True:
            yield number, {"next": number + 1}
            number += 1

    def evaluate(self, state):
        self.events.append(f"evaluate {state.step}")
        return {"loss": self.loss(state.step), "top1": self.top1(state.step)}

    def save(self, state, progress, measured):
        self.events.append(f"save {state.step}" + (" best?" if measured else ""))
        self.saved.append((state, copy.deepcopy(progress), measured))

    def record(self, step, scalars):
        kind = {name.split("/")[0] for name in scalars}
        self.events.append(f"record {step} {kind.pop()}")
        assert not kind
        self.records.append((step, dict(scalars)))

    def fit(self, state=None, progress=None):
        self.progress = progress or Progress()
        return fit(
            state or State(0, "a"),
            self.progress,
            phases=self.phases,
            batches=self.batches(self.progress.position),
            cadence=self.cadence,
            evaluate=self.evaluate,
            save=self.save,
            record=self.record,
            show=self.shown.append,
            interrupted=lambda step: step == self.stop_at,
        )


def test_every_event_in_its_order():
    toy = Toy(Cadence(steps=3, steps_per_epoch=2.0, eval_every=2, checkpoint_every=1))
    assert toy.fit() == State(3, "a")
    assert toy.events == [
        *("evaluate 0", "record 0 val", "save 0 best?"),
        *("start 1", "record 1 train", "save 1"),
        *("start 2", "record 2 train", "evaluate 2", "record 2 val", "save 2 best?"),
        *("start 3", "record 3 train", "evaluate 3", "record 3 val", "save 3 best?"),
    ]


def test_two_steps_are_in_flight_and_no_more():
    toy = Toy(Cadence(steps=5, steps_per_epoch=5.0, eval_every=5))
    toy.fit()
    assert toy.events[3:-3] == [
        *("start 1", "start 2", "start 3", "record 1 train", "start 4", "record 2 train"),
        *("start 5", "record 3 train", "record 4 train", "record 5 train"),
    ]
    assert toy.shown == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_the_curve_has_means_since_the_row_before():
    toy = Toy(Cadence(steps=5, steps_per_epoch=2.0, eval_every=2))
    toy.fit()
    columns = ("step", "epoch", "train_loss", "train_top1", "val_loss", "val_top1")
    assert [tuple(row[name] for name in columns) for row in toy.progress.curve] == [
        (0, 0.0, None, None, 0.0, 0.0),
        (2, 1.0, 1.5, pytest.approx((1 + 1 / 2) / 2), 20.0, 0.02),
        (4, 2.0, 3.5, pytest.approx((1 / 3 + 1 / 4) / 2), 40.0, 0.04),
        (5, 2.5, 5.0, pytest.approx(1 / 5), 50.0, 0.05),
    ]
    assert toy.progress.best()["step"] == 5
    assert [measured["top1"] for _, _, measured in toy.saved] == [0.0, 0.02, 0.04, 0.05]


def test_of_equal_evaluations_the_latest_is_the_best():
    accuracies = (0.1, 0.3, 0.2, 0.3, 0.2)
    toy = Toy(
        Cadence(steps=8, steps_per_epoch=2.0, eval_every=2), top1=lambda step: accuracies[step // 2]
    )
    toy.fit()
    assert toy.progress.best()["step"] == 6


def test_a_log_and_checkpoints_now_and_then():
    toy = Toy(
        Cadence(steps=10, steps_per_epoch=10.0, eval_every=9, checkpoint_every=3, log_every=4)
    )
    toy.fit()
    logged = [step for step, scalars in toy.records if "train/loss" in scalars]
    assert logged == [4, 8, 10]
    assert toy.records[1] == (4, {"train/loss": 4.0, "train/top1": 0.25, "train/grad_norm": 1.0})
    assert [(s.step, measured is not None) for s, _, measured in toy.saved] == [
        (0, True), (3, False), (6, False), (9, True), (10, True)
    ]  # fmt: skip
    assert toy.progress.curve[1]["train_loss"] == 5.0  # of all nine, logged or not


def test_a_run_of_no_steps_is_evaluated_and_saved():
    toy = Toy(Cadence(steps=0, steps_per_epoch=2.0, eval_every=1, checkpoint_every=1, patience=1))
    assert toy.fit() == State(0, "a")
    assert toy.events == ["evaluate 0", "record 0 val", "save 0 best?"]


@pytest.mark.parametrize(
    ("patience", "accuracies", "last"),
    [
        (1, (0.1, 0.2, 0.2, 0.9), 4),  # an equal one is no better
        (2, (0.1, 0.3, 0.2, 0.3, 0.9), 6),
        (2, (0.1, 0.2, 0.1, 0.3, 0.1, 0.2, 0.9), 10),
        (3, (0.5, 0.1, 0.2, 0.3, 0.9), 6),  # counted from the best, though they rise
        (0, (0.5, 0.1, 0.1, 0.1, 0.1, 0.1), 10),
    ],
)
def test_patience(patience, accuracies, last):
    cadence = Cadence(steps=10, steps_per_epoch=2.0, eval_every=2, patience=patience)
    toy = Toy(cadence, top1=lambda step: accuracies[step // 2])
    assert toy.fit().step == last
    state, progress, _ = toy.saved[-1]
    assert (state.step, progress.curve[-1]["step"]) == (last, last)
    again = Toy(cadence, top1=toy.top1)
    assert again.fit(state, progress).step == last
    assert again.events == []  # it has not forgotten that it had finished


@pytest.mark.parametrize(
    ("losses", "last"),
    [
        ((5.0, 4.0, 3.0, 2.0, 1.0, 0.5), 10),  # which falls, though no other image comes out right
        ((5.0, 4.0, 4.0, 4.5, 3.0, 2.0), 6),
        ((4.0, 5.0, 5.0, 5.0, 5.0, 5.0), 4),
        ((1.0, 0.9995, 0.9991, 0.5, 0.4, 0.3), 4),  # by less than a thousandth
        ((1.0, 0.9995, 0.9989, 0.9989, 0.9989, 0.9), 8),
    ],
)
def test_a_lower_loss_is_better_too(losses, last):
    cadence = Cadence(steps=10, steps_per_epoch=2.0, eval_every=2, patience=2)
    toy = Toy(cadence, top1=lambda step: 0.1, loss=lambda step: losses[step // 2])
    assert toy.fit().step == last


@pytest.mark.parametrize("stop_at", range(7))
@pytest.mark.parametrize("checkpoint_every", [0, 1, 3])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(stop_at, checkpoint_every):
    cadence = Cadence(7, 3.0, eval_every=2, checkpoint_every=checkpoint_every, log_every=1)
    phases = ((0, 3, "a"), (3, 4, "b"), (4, 7, "c"))
    whole = Toy(cadence, phases=phases)
    whole.fit()
    stopped = Toy(cadence, phases=phases, stop_at=stop_at)
    with pytest.raises(Interrupted) as interrupted:
        stopped.fit()
    assert interrupted.value.step == stop_at
    state, progress, measured = stopped.saved[-1]
    assert (state.step, measured is None) == (stop_at, stop_at % 2 == 1)
    assert [s.step for s, _, _ in stopped.saved].count(stop_at) == 1
    resumed = Toy(cadence, phases=phases)
    assert resumed.fit(state, progress) == State(7, "c")
    assert stopped.records + resumed.records == whole.records
    assert resumed.progress.curve == whole.progress.curve
    entered = [e for e in stopped.events + resumed.events if e.startswith("enter")]
    assert entered == ["enter b", "enter c"]
    assert not {s.step for s, _, _ in resumed.saved} & {s.step for s, _, _ in stopped.saved}


def test_a_request_after_the_last_step_changes_nothing():
    toy = Toy(Cadence(steps=2, steps_per_epoch=2.0, eval_every=2), stop_at=2)
    assert toy.fit().step == 2


def test_a_request_right_after_a_resume_saves_nothing_again():
    cadence = Cadence(steps=5, steps_per_epoch=5.0, eval_every=5, checkpoint_every=3)
    toy = Toy(cadence, stop_at=3)
    with pytest.raises(Interrupted):
        toy.fit(State(3, "a"), Progress(position={"next": 3}, curve=[{"step": 0, "val_top1": 0.0}]))
    assert toy.events == []


def test_the_seconds_go_on():
    toy = Toy(Cadence(steps=1, steps_per_epoch=1.0, eval_every=1))
    toy.fit(progress=Progress(seconds=1000.0))
    assert 1000.0 < toy.saved[0][1].seconds <= toy.progress.seconds < 1060.0


@pytest.mark.parametrize("checkpoint_every", [0, 1, 3])
@pytest.mark.parametrize(
    ("name", "value"), [("loss", math.nan), ("loss", math.inf), ("grad_norm", math.inf)]
)
def test_what_is_not_finite_is_named_by_its_step_and_never_saved(checkpoint_every, name, value):
    cadence = Cadence(9, 9.0, eval_every=9, checkpoint_every=checkpoint_every)
    toy = Toy(cadence, spoilt={4: {name: value}, 5: {"loss": math.nan}, 6: {"loss": math.nan}})
    with pytest.raises(UserError) as error:
        toy.fit()
    assert str(error.value).startswith(f"step 4 is not finite: {name} {value}. The last checkpoint")
    assert "`optim.learning_rate`" in str(error.value)
    assert [step for step, _ in toy.records] == [0, 1, 2, 3]
    assert max(state.step for state, _, _ in toy.saved) <= 3
    # Steps were started after it before it was known, unless a checkpoint waited for it.
    assert toy.events.count("start 5") == (checkpoint_every != 1)


def test_what_is_not_finite_in_the_last_steps_is_noticed_before_the_evaluation():
    toy = Toy(Cadence(4, 4.0, eval_every=4), spoilt={4: {"loss": math.nan}})
    with pytest.raises(UserError, match="step 4 is not finite: loss nan"):
        toy.fit()
    assert "evaluate 4" not in toy.events


def test_a_network_whose_val_loss_is_not_finite_is_not_saved():
    toy = Toy(Cadence(4, 4.0, eval_every=2))
    toy.evaluate = lambda state: {"loss": math.nan if state.step else 2.3, "top1": 0.1}
    with pytest.raises(UserError, match="step 2 is not finite: val/loss nan"):
        toy.fit()
    assert [state.step for state, _, _ in toy.saved] == [0]
