import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import clusters, commands
from tl import hosts
from tl.errors import UserError


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_the_work_whole_and_disjoint(monkeypatch, processes):
    items = [0, 1, 2, 5, 8, 9]
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    shares = []
    for process in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        share = hosts.share_of_process(items)
        assert all(item % processes == process for item in share)
        shares += share
    assert sorted(shares) == items


@pytest.mark.parametrize("asked", [False, True])
def test_one_process_stops_when_it_is_asked_to(asked):
    assert hosts.stop_agreed(asked) is asked
    assert hosts.process_share() == (0, 1)


@pytest.mark.parametrize("agreed", [False, True])
def test_several_processes_stop_where_the_service_says(monkeypatch, agreed):
    steps = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(
        hosts.multihost_utils,
        "reached_preemption_sync_point",
        lambda step: steps.append(step) or agreed,
    )
    # What this process alone was asked does not count. JAX tells calls apart by a growing number,
    # also where a study's next run begins with its first step.
    assert [hosts.stop_agreed(not agreed) for _ in range(3)] == [agreed] * 3
    assert steps == [steps[0], steps[0] + 1, steps[0] + 2]
    assert hosts.process_share() == (1, 2)


def test_one_process_meets_and_gathers_nobody_else():
    rows = np.arange(6.0).reshape(3, 2)
    assert [part is rows for part in hosts.gather(rows)] == [True]
    assert hosts.gather_texts(["a", "é"]) == [["a", "é"]]
    assert hosts.broadcast(5) == 5
    assert hosts.meet("anywhere", 0.0) and hosts.is_first()
    assert hosts.all_of(True) and not hosts.all_of(False)


def test_rows_of_several_processes_keep_their_type_and_their_own_number(monkeypatch):
    """What JAX exchanges is what each process would send, here by another number of rows."""
    counts, sent = [3, 0, 2], []
    of_process = [np.arange(2 * count, dtype=np.float64).reshape(count, 2) / 3 for count in counts]

    def exchange(value):
        if value.ndim == 0:
            return np.array(counts, np.int32)
        sent.append(value)
        padded = [np.pad(rows, [(0, 3 - len(rows)), (0, 0)]) for rows in of_process]
        return np.stack([np.frombuffer(rows.tobytes(), np.uint8) for rows in padded])

    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(hosts.multihost_utils, "process_allgather", exchange)
    received = hosts.gather(of_process[2])
    for rows, expected in zip(received, of_process, strict=True):
        assert rows.dtype == np.float64
        np.testing.assert_array_equal(rows, expected)
    assert sent[0].dtype == np.uint8 and sent[0].shape == (3 * 2 * 8,)


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer"), True),
        (UserError("cannot write a checkpoint"), False),
        (RuntimeError("NCCL operation failed"), True),
    ],
)
def test_only_the_loss_of_a_process_is_waited_for(monkeypatch, error, waits):
    slept = []
    monkeypatch.setattr(hosts.time, "sleep", slept.append)
    hosts.wait_if_lost(error, 10)  # before it has joined others it has lost nobody
    assert not slept
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    hosts.wait_if_lost(error, 10)
    outer = UserError("cannot write a checkpoint to x")
    outer.__cause__ = error
    hosts.wait_if_lost(outer, 20)
    assert slept == ([40, 50] if waits else [])


def test_no_cluster_is_one_message(monkeypatch):
    def initialize(*arguments, **named):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match=r"--multihost expected a cluster that JAX knows .* Slurm"):
        hosts.join("", None, None, 60)


JOINED = """
import sys
import numpy as np
from tl import hosts
number = int(sys.argv[1])
hosts.join(f"localhost:{sys.argv[2]}", 2, number, heartbeat_seconds=10)
assert hosts.process_share() == (number, 2) and hosts.is_first() == (number == 0)
assert hosts.share_of_process([3, 4, 5]) == [[4], [3, 5]][number]
assert hosts.broadcast(7 + number) == 7
assert [hosts.all_of(flags[number]) for flags in ((True, True), (True, False))] == [True, False]
rows = [np.array([[0.1, 2]]), np.array([[3.0, 4], [5, 6]])]
for received, expected in zip(hosts.gather(rows[number]), rows, strict=True):
    assert received.dtype == np.float64
    np.testing.assert_array_equal(received, expected)
texts = [["a", "", "\u00e9"], []]
assert hosts.gather_texts(texts[number]) == texts
hosts.barrier("here")
assert hosts.meet("both", 20)
if number:
    assert not hosts.meet("one alone", 0.5)
hosts.barrier("end")
"""


def test_two_processes_exchange_numbers_rows_and_texts():
    port = str(clusters.free_port())
    started = [
        subprocess.Popen(
            [sys.executable, "-c", JOINED, str(number), port],
            cwd=commands.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    statuses, _, errors = clusters.end(started, 100)
    assert statuses == [0, 0], errors
