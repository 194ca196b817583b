import io
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tests import commands
from tl.runs import supervisor

# What JAX 0.10 to 0.12 print.
UNHEALTHY = """\
E1128 12:13:43.849 31198 coordination_service_agent.cc:289] Polled an error.
F1128 12:13:43.849 31198 client.h:80] Terminating process because the JAX distributed service \
detected fatal errors. absl::Status: UNAVAILABLE: The following tasks are unhealthy (stopped \
sending heartbeats):
{}
The tasks have crashed. Check the task logs for an earlier error.

RPC: /xla.coordination.CoordinationService/PollForError
*** Check failure stack trace: ***
    @     0x7f1e5a4eb505  std::_Function_handler<>::_M_invoke()
"""
LEADER = """\
F1128 12:14:01.414 31367 client.h:80] Terminating process. absl::Status: UNAVAILABLE: Failed to \
send RPC to coordination service. Either the leader task was preempted/died/restarted unexpectedly.
"""
FROZEN_LEADER = """\
F1128 13:33:51.696 23828 client.h:80] Terminating process. absl::Status: DEADLINE_EXCEEDED

RPC: /xla.coordination.CoordinationService/Heartbeat
"""
LATE = """\
F1128 12:19:07.909 2335 client.h:80] Terminating process. absl::Status: DEADLINE_EXCEEDED

RPC: /xla.coordination.CoordinationService/RegisterTask
"""


@pytest.mark.parametrize(
    ("report", "named"),
    [
        (UNHEALTHY.format("1"), "process 1 has"),
        (UNHEALTHY.format("1, 12"), "processes 1, 12 have"),
        (UNHEALTHY.format("1\n2"), "processes 1, 2 have"),
        (LEADER, "process 0 has"),
        (FROZEN_LEADER, "process 0 has"),
    ],
)
def test_a_report_becomes_a_sentence_that_names_who_is_gone(report, named):
    assert supervisor.explain(report) == (
        f"error: {named} ended, or not answered for the seconds of --heartbeat, so this process "
        "has ended too; what it printed there says why. Once that is mended, the same command on "
        "every host goes on from what is saved"
    )


def test_processes_that_never_came_are_a_sentence_too():
    assert supervisor.explain(LATE) == (
        "error: the other processes of this run did not come within 300 s; start the same command "
        "on every host, each with its own --process_id, and give a --coordinator whose port all of "
        "them can reach"
    )


def test_another_report_is_not_explained():
    assert supervisor.explain("F1128 12:00:00.0 7 cuda.cc:1] no memory") == ""


def test_lines_go_on_but_for_the_report_and_what_the_run_says_itself():
    lines = [
        b"training: 8 of 16\n",
        b"[Gloo] Rank 0 is connected to 2 peer ranks. Expected number of them is 2\n",
        b"W1128 12:42:06.879210 20073 preemption_notifier.cc:90] SIGTERM caught\n",
        b"warning: few images\n",
        b"W1128 12:42:06.879210 20073 other.cc:90] odd\n",
    ]
    report = [line.encode() for line in UNHEALTHY.splitlines(keepends=True)]
    told = io.BytesIO()
    assert supervisor.forward([*lines, *report], told) == UNHEALTHY.encode()
    assert told.getvalue() == lines[0] + lines[3] + lines[4]


PARENT = """
    import os, signal, subprocess, sys, time
    from tl.runs import supervisor
    if not supervisor.is_child():
        supervisor.run()
    supervisor.end_with_parent()
    print(os.getpid(), flush=True)
    {}
"""


def start(code):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT).format(code)],
        cwd=commands.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("sys.exit(0)", 0, ""),
        ("print('mend it', file=sys.stderr); sys.exit(2)", 2, "mend it\n"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, ""),
        ("os.abort()", 134, ""),
        (
            f"sys.stderr.write({LEADER!r}); sys.stderr.flush(); os.abort()",
            1,
            "error: process 0 has",
        ),
        # An abort that is not explained is shown whole.
        (
            "sys.stderr.write('F1128 1:0 1 client.h:80] x'); sys.stderr.flush(); os.abort()",
            134,
            "F11",
        ),
    ],
)
def test_the_command_ends_as_its_child_does(code, status, error):
    out, told = (process := start(code)).communicate(timeout=60)
    assert process.returncode == status
    assert told.startswith(error) and bool(told) == bool(error)
    assert int(out) != process.pid


def test_signals_reach_the_child():
    code = "signal.signal(15, lambda *_: sys.exit(7)); print('ready', flush=True); time.sleep(60)"
    process = start(code)
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 7
    process.communicate()


def test_the_child_ends_when_its_parent_is_killed():
    process = start("time.sleep(60)")
    child = int(process.stdout.readline())
    process.kill()
    process.communicate(timeout=60)
    for _ in range(200):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the child is still there")
