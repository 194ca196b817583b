"""Learning rates over steps and over layers, by hand."""

import dataclasses

import numpy as np
import pytest

from configs import common
from tl.errors import UserError
from tl.models.backbone import Backbone, blocks
from tl.models.resnet import ResNet
from tl.train import schedules
from tl.train.optim import Optim


def settings(**fields):
    return Optim(**{**common.get_config().optim, "schedule": "constant", **fields})


def rates(steps, **fields):
    schedule = schedules.make_schedule(settings(learning_rate=1.0, **fields), steps)
    return [float(schedule(step)) for step in range(steps)]


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"schedule": "constant"}, [1, 1, 1, 1]),
        ({"schedule": "linear"}, [1, 0.75, 0.5, 0.25]),
        ({"schedule": "cosine"}, [1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]),
        ({"schedule": "step", "boundaries": (0.25, 0.75), "factor": 0.5}, [1, 0.5, 0.5, 0.25]),
        ({"schedule": "step", "boundaries": (0.45, 0.55), "factor": 0.5}, [1, 1, 0.25, 0.25]),
        ({"schedule": "step", "boundaries": ()}, [1, 1, 1, 1]),
        ({"schedule": "constant", "warmup": 0.5}, [0.5, 1, 1, 1]),
        ({"schedule": "constant", "warmup": 0.75}, [1 / 3, 2 / 3, 1, 1]),
        ({"schedule": "constant", "warmup": 0.99}, [0.25, 0.5, 0.75, 1]),
        ({"schedule": "cosine", "warmup": 0.99}, [0.25, 0.5, 0.75, 1]),
        ({"schedule": "linear", "warmup": 0.5}, [0.5, 1, 1, 0.5]),
        ({"schedule": "cosine", "warmup": 0.5}, [0.5, 1, 1, 0.5]),
        ({"schedule": "linear", "warmup": 0.25}, [1, 1, 2 / 3, 1 / 3]),
        (
            {"schedule": "step", "warmup": 0.5, "boundaries": (0.75,), "factor": 0.1},
            [0.5, 1, 1, 0.1],
        ),
        (
            {"schedule": "step", "warmup": 0.45, "boundaries": (0.55,), "factor": 0.1},
            [0.5, 1, 0.1, 0.1],
        ),
    ],
)
def test_four_steps_by_hand(fields, expected):
    np.testing.assert_allclose(rates(4, **fields), expected, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "step"])
@pytest.mark.parametrize("warmup", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 3, 17])
def test_no_update_is_wasted_and_the_peak_is_reached(schedule, warmup, steps):
    values = rates(steps, schedule=schedule, warmup=warmup, boundaries=(0.95,))
    assert min(values) > 0
    assert max(values) == pytest.approx(1.0)
    top = int(np.argmax(values))
    assert np.all(np.diff(values[: top + 1]) >= 0) and np.all(np.diff(values[top:]) <= 1e-7)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_zero_is_reached_one_step_after_the_last(schedule):
    rate = schedules.make_schedule(settings(schedule=schedule, warmup=0.2), 10)
    assert float(rate(10)) == pytest.approx(0.0, abs=1e-9)
    assert float(rate(9)) > 0


BLOCKS = [f"stage{i}/block{j}/conv1/{leaf}" for i, j in ((1, 1), (1, 2), (2, 1)) for leaf in "ab"]
LAYERS = ("stem", *blocks((2, 1)), "top", "head")
BACKBONE = Backbone("small", ResNet, {}, {}, LAYERS, ())
PATHS = ["head/kernel", *BLOCKS[::-1], "stem/conv/kernel", "stem/bn/scale", "top/conv/kernel"]


def test_layer_decay_by_hand():
    chosen = schedules.multipliers(PATHS, (), 0.5, BACKBONE)
    assert chosen == {
        "head/kernel": 1.0,
        "top/conv/kernel": 0.5,
        **dict.fromkeys(BLOCKS[4:], 0.25),
        **dict.fromkeys(BLOCKS[2:4], 0.125),
        **dict.fromkeys(BLOCKS[:2], 0.0625),
        "stem/conv/kernel": 0.03125,
        "stem/bn/scale": 0.03125,
    }
    two = dataclasses.replace(BACKBONE, layers=("stem", "head"))
    found = schedules.multipliers(["stem/a", "head/a"], (), 0.5, two)
    assert found == {"stem/a": 0.5, "head/a": 1.0}


def test_of_several_patterns_the_last_counts_and_multiplies_with_layer_decay():
    chosen = schedules.multipliers(PATHS, ("*=3", "stage1=7", "stage1/block2=5"), 1.0, BACKBONE)
    assert chosen["head/kernel"] == chosen["stage2/block1/conv1/a"] == 3.0
    assert (chosen["stage1/block1/conv1/a"], chosen["stage1/block2/conv1/a"]) == (7.0, 5.0)
    chosen = schedules.multipliers(PATHS, ("stage1=7", "*=3", "head=10"), 0.5, BACKBONE)
    assert chosen["stage1/block1/conv1/a"] == 3 * 0.0625
    assert chosen["head/kernel"] == 10.0


def test_without_patterns_and_decay_all_are_1():
    assert schedules.multipliers(iter(PATHS), (), 1.0, BACKBONE) == dict.fromkeys(PATHS, 1.0)


@pytest.mark.parametrize(
    "text", ["head", "head=", "=3", "head=ten", "head=0", "head=-1", "head=nan"]
)
def test_a_malformed_multiplier_says_what_one_looks_like(text):
    with pytest.raises(
        UserError, match=rf"multipliers: expected PATTERN=NUMBER .*{text!r}; leaves"
    ):
        schedules.multipliers(PATHS, (text,), 1.0, BACKBONE)


def test_a_pattern_without_a_match_is_refused():
    with pytest.raises(UserError, match=r"multipliers: 'heat' matches no .* nearest are 'head'"):
        schedules.multipliers(PATHS, ("heat=10",), 1.0, BACKBONE)
