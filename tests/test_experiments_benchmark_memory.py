"""Memory of a training step of a tiny network, computed again and divided."""

import pytest

from experiments.benchmark import memory
from tests import contests


@pytest.fixture(autouse=True)
def in_this_process():
    with contests.in_this_process():
        yield


def test_rows_of_a_step_and_of_the_state():
    options = contests.options(
        memory_backbones=("resnet_tiny",), memory_size=16, memory_batch=16, devices=(8,)
    )
    seconds, temporary, state, step = memory.measure(options, {}, str)
    for row in (seconds, temporary):
        assert (row["case"], row["size"]) == ("resnet_tiny, a step", 16)
        assert row["peers"].keys() == {"remat"} and row["batch_size"] == 16
    assert (seconds["unit"], seconds["ours"]) == ("s", 0.5)
    assert temporary["unit"] == state["unit"] == step["unit"] == "MiB"
    assert temporary["ours"] > 0 and temporary["peers"]["remat"] > 0
    assert state["case"] == "resnet_tiny, state on 8 fake device(s)"
    assert step["case"] == "resnet_tiny, step on 8 fake device(s)"
    # Four times the parameters, and what is counted; of the divided state most lies elsewhere.
    assert 4 * 4 * 5042 < state["ours"] * 2**20 < 4 * 4 * 5042 + 2000
    assert state["peers"]["fsdp"] < 0.2 * state["ours"]
    assert step["ours"] > 0 and step["peers"]["fsdp"] > 0
