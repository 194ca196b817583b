"""The decisions of a config for a tiny network whose stem unfreezes after three of ten steps."""

import dataclasses
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest

from tests import foreign, tiny
from tl import tree
from tl.devices import DataParallel
from tl.errors import UserError
from tl.runs import options
from tl.train import freezing
from tl.train.inputs import Inputs
from tl.train.plan import make_plan
from tl.weights.load import load

GRADUAL = {"train.freeze": ("stem",), "train.unfreeze": ("stem@3",)}


@pytest.fixture(scope="module", autouse=True)
def backbone():
    with tiny.registered():
        yield


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return load(tiny.write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


@pytest.fixture
def plan(network, tmp_path):
    def make(steps=10, **fields):
        values = tiny.config("", tmp_path, **fields)
        values.train.steps = steps
        if not steps:
            values.train.epochs = 0.0
        return make_plan(options.recipe(values, 80, None), network)

    return make


def modules(paths):
    return {path.split("/")[0] for path in paths}


def test_a_run_without_freezing_is_one_phase(plan):
    found = plan()
    (phase,) = found.phases
    assert (phase.start, phase.end) == (0, 10)
    assert found.trained(phase) == set(found.rates)
    assert {found.phase_of(step).start for step in range(11)} == {0}
    assert "from step" not in found.tables(freezing.table)


def test_the_state_after_a_step_is_that_of_the_phase_that_made_it(plan):
    found = plan(**GRADUAL)
    assert [(p.start, p.end) for p in found.phases] == [(0, 3), (3, 10)]
    assert [found.phase_of(step).start for step in (0, 1, 3, 4, 10)] == [0, 0, 0, 3, 3]
    assert modules(found.trained(found.phases[0])) == {"stage1", "head"}
    assert modules(found.trained(found.phases[1])) == {"stem", "stage1", "head"}


@pytest.mark.parametrize(
    ("number", "names"), [(0, {"stage1", "head"}), (1, {"stem", "stage1", "head"})]
)
def test_the_optimizer_holds_what_trains_and_nothing_else(number, names, plan, network):
    found = plan(**GRADUAL)
    state = found.state(network.variables, found.phases[number])
    moments = tree.leaves(state.opt_state["core"])
    assert set(moments) == found.trained(found.phases[number])
    assert modules(moments) == names
    assert set(tree.leaves(state.params)) == set(found.rates)
    assert state.ema is None
    assert found.state(network.variables, found.phases[0]).step == 0


def test_entering_a_phase_keeps_the_moments_and_adds_new_ones(plan, network):
    found = plan(**GRADUAL)
    inputs = mock.Mock(spec=Inputs, start="", prepare_train=None)  # for no step is taken
    _, second = found.compiled(inputs, DataParallel.over())
    assert (second.start, second.end) == (3, 10)
    state = found.state(network.variables, found.phases[0])
    state = state.replace(opt_state=jax.tree.map(lambda leaf: leaf + 1, state.opt_state))
    entered = second.enter(state)
    moments = tree.leaves(entered.opt_state["core"])
    assert set(moments) == set(found.rates)
    for path, moment in moments.items():
        expected = 0 if path.startswith("stem/") else 1
        assert moment.count == expected
        np.testing.assert_array_equal(moment.mu, np.full(moment.mu.shape, expected))
    assert jax.tree.structure(entered) == jax.tree.structure(
        found.state(network.variables, found.phases[1])
    )


def test_the_step_alone_computes_blocks_again_and_gathers_what_is_divided(plan, network):
    def step(**fields):
        found = plan(**fields)
        inputs = mock.Mock(spec=Inputs, start="", prepare_train=lambda images: images)
        sharding = found.recipe.sharding
        parallel = dataclasses.replace(DataParallel.over(), sharding=sharding)
        (phase,) = found.compiled(inputs, parallel)
        batch = {
            "image": jax.ShapeDtypeStruct((8, 16, 16, 3), np.float32),
            "label": jax.ShapeDtypeStruct((8,), np.int32),
            "mask": jax.ShapeDtypeStruct((8,), bool),
        }
        return str(phase.step.trace(found.shapes(found.phases[0]), batch).jaxpr)

    usual = step()
    assert "remat" not in usual and "sharding_constraint" not in usual
    assert "remat" in step(**{"train.remat": True})
    assert "sharding_constraint" in step(**{"train.sharding": "fsdp"})
    assert network.model.remat is False


def test_the_memory_of_a_divided_state_by_hand(plan):
    found = plan(**{**GRADUAL, "train.sharding": "fsdp", "train.ema_decay": 0.5})
    parallel = dataclasses.replace(DataParallel.over(), sharding="fsdp")
    memory = found.memory(parallel)
    leaves = tree.leaves(found.network.variables)
    whole = sum(leaf.size for leaf in leaves.values())
    vectors = sum(leaf.size for leaf in leaves.values() if leaf.ndim < 2)
    # Of the head's kernel, 16 x 3, the 16; all others have an axis of 8 or 16.
    divided = vectors + (whole - vectors) / 8
    assert memory["variables"] == memory["average"] == 4 * divided
    moments = 2 * (divided - sum(v.size for p, v in leaves.items() if p.startswith("batch")))
    counts = len(tree.leaves(found.network.variables["params"])) + 1
    assert memory["optimizer"] == 4 * (moments + counts)  # of the last phase: all train
    assert memory["state"] == 4 * (2 * divided + moments + counts + 3)
    assert memory["whole"] > 5 * memory["state"]


def test_a_network_without_blocks_cannot_compute_them_again(network):
    model = foreign.GroupNet(num_classes=3)
    recipe = options.recipe(tiny.config("", Path(), **{"train.remat": True}), 80, None)
    with pytest.raises(UserError, match=r"^train.remat: resnet_tiny has no blocks that the back"):
        make_plan(recipe, dataclasses.replace(network, model=model))


def test_an_average_is_kept_where_it_is_asked_for(plan, network):
    found = plan(**{"train.ema_decay": 0.9})
    state = found.state(network.variables, found.phases[0])
    assert set(tree.leaves(state.ema["params"])) == set(found.rates)
    assert state.evaluated is state.ema


def test_rates_and_schedule_are_the_configs(plan):
    found = plan(**{"optim.multipliers": ("head=10",), "optim.schedule": "linear"})
    assert {rate for path, rate in found.rates.items() if path.startswith("head/")} == {10}
    assert {rate for path, rate in found.rates.items() if not path.startswith("head/")} == {1}
    np.testing.assert_allclose([found.schedule(step) for step in (0, 5, 10)], [0.05, 0.025, 0])


def test_the_tables_have_a_part_a_phase(plan):
    found = plan(**GRADUAL)
    first, second = found.tables(freezing.table).split("\n\n")
    assert first.startswith("from step 0:\n") and second.startswith("from step 3:\n")
    assert "0 / 1,192" in first and "1,192 / 1,192" in second
    lines = found.tables(freezing.leaf_table).splitlines()
    states = [line.split()[-3] for line in lines if line.startswith("stem/conv")]
    assert states == ["frozen", "train"]


def test_a_run_of_no_steps_has_a_plan(plan, network):
    found = plan(steps=0)
    assert found.phase_of(0) is found.phases[0]
    assert found.state(network.variables, found.phases[0]).step == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train.freeze": ("stage7",)}, "train.freeze: 'stage7' matches no parameter"),
        ({"train.unfreeze": ("stem",)}, "PATTERN@STEP, such as 'stage4@100', got 'stem'"),
        ({**GRADUAL, "train.unfreeze": ("stem@10",)}, "a step from 1 to 9, of a run of 10"),
        ({"optim.multipliers": ("haed=2",)}, "haed"),
        ({"optim.warmup": 1.0}, r"optim.warmup: .* in \[0, 1\), got 1"),
    ],
)
def test_mistakes(fields, message, plan):
    with pytest.raises(UserError, match=message):
        plan(**fields)


def test_a_head_of_zeros_that_is_frozen_lets_nothing_train(plan):
    with pytest.raises(UserError, match=r"^train.freeze: the head starts at zero and is frozen"):
        plan(**{"train.freeze": ("*", "!stage1")})
    plan(**{"train.freeze": ("*", "!stage1"), "train.head": "random"})
    plan(**{"train.freeze": ("*", "!stage1"), "train.unfreeze": ("head@3",)})
