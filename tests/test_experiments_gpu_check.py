import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import pytest

from experiments.gpu import check
from tl.errors import UserError

ROW = {
    "section": "gpu", "case": "resnet50", "size": 224, "dtype": "bfloat16", "unit": "images/s",
    "ours": 1234.5, "peers": {}, "limit_fraction": 0.5, "spread": {"ours": [1200.0, 1300.0]},
    "peak_mib": {}, "failed": {},
}  # fmt: skip
GOOD = "..s\n3 passed, 1 skipped in 83.20s (0:01:23)\n"
BAD = """..F
____ test_b ____
FAILED is a word of the program
=========================== short test summary info ============================
FAILED tests/test_a.py::test_b[float32] - AssertionError: expected 1
ERROR tests/test_c.py::test_d
2 failed, 3 passed, 1 error in 9.41s
"""
SUMMARY = """\
device     1 x NVIDIA H100 (gpu)
jax        0.11.2
tests      3 passed, 1 skipped; done, 83 s
benchmark  done, 120 s

gpu       size    type      unit      ours              of limit
--------  ------  --------  --------  ----------------  ----------
resnet50  224     bfloat16  images/s  1234 (1200-1300)  50%
"""


def test_outcome_of_pytest():
    assert check.outcome(GOOD) == ("3 passed, 1 skipped", [])
    assert check.outcome(BAD) == (
        "2 failed, 3 passed, 1 error",
        [
            "tests/test_a.py::test_b[float32] - AssertionError: expected 1",
            "tests/test_c.py::test_d",
        ],
    )


@pytest.mark.parametrize("text", ["", "..F\nFAILED", "no tests ran in 0.03s\n"])
def test_outcome_of_pytest_that_came_to_nothing(text):
    assert check.outcome(text) == ("", [])


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """Runs a check whose commands are faked; `checked.calls` has what they were."""

    def checked(tests, tests_status=0, benchmark=None, benchmark_status=0):
        def run(command, log_file, seconds):
            checked.calls.append((command[2], seconds, command[-1]))
            if command[2] == "pytest":
                files = [
                    pathlib.Path(argument).name for argument in command if "/tests/" in argument
                ]
                assert "test_gpu_train.py" in files and "test_train_loop.py" not in files
                log_file.write_text(tests)
                return check.Ended(tests_status, 83.4)
            if benchmark:
                (tmp_path / "out" / "benchmark.json").write_text(json.dumps(benchmark))
            return check.Ended(benchmark_status, 120.0)

        lines = []
        monkeypatch.setattr(check, "run", run)
        passed = check.check(
            tmp_path / "out",
            test_seconds=60,
            benchmark_seconds=70,
            processes=3,
            benchmark_flags=["--peers="],
            log=lines.append,
        )
        return passed, lines

    checked.calls = []
    monkeypatch.setattr(check, "_device", lambda: ("1 x NVIDIA H100 (gpu)", "0.11.2"))
    return checked


def test_a_check_where_all_goes_well(checked, tmp_path):
    passed, lines = checked(GOOD, benchmark={"rows": [ROW]})
    assert passed
    assert checked.calls == [
        ("pytest", 60, "no:cacheprovider"), ("experiments.benchmark", 70, "--peers=")
    ]  # fmt: skip
    assert lines[0] == "1 x NVIDIA H100 (gpu), jax 0.11.2"
    assert (tmp_path / "out" / "summary.txt").read_text() == SUMMARY
    assert (tmp_path / "out" / "summary.txt").read_text() in f"{lines[-1]}\n"


def test_the_benchmark_runs_where_tests_fail(checked):
    passed, lines = checked(BAD, 1, {"rows": [ROW]})
    assert not passed and checked.calls[1][0] == "experiments.benchmark"
    assert "tests      2 failed, 3 passed, 1 error; exit status 1, 83 s" in lines[-1]
    assert "failed     tests/test_a.py::test_b[float32] - AssertionError: expected 1" in lines[-1]


def test_a_check_that_is_over_its_time(checked):
    passed, lines = checked(GOOD, benchmark_status=None)
    assert not passed
    assert "benchmark  no rows; stopped, its time was over, 120 s" in lines[-1]


def test_a_check_in_which_no_test_ran(checked):
    passed, lines = checked("4 skipped in 0.10s\n", benchmark={"rows": [ROW]})
    assert not passed and "tests      4 skipped; done, 83 s" in lines[-1]
    assert "tests      none ran; exit status 5" in check.summary(
        "", "", "", [], check.Ended(5, 1.0), [], check.Ended(0, 1.0)
    )


def test_an_earlier_check_is_kept(checked, tmp_path):
    checked(GOOD)
    with pytest.raises(UserError, match=r"out holds tests.log of an earlier check; give another"):
        checked(GOOD)
    assert len(checked.calls) == 2


def test_a_tree_without_tests(checked, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "ROOT", tmp_path)
    with pytest.raises(UserError, match=r"expected the tests in .*; run this in a copy"):
        checked(GOOD)


def test_a_command_writes_its_log(tmp_path):
    command = [sys.executable, "-c", "import os, sys; print(os.getcwd(), flush=True); sys.exit(3)"]
    ended = check.run(command, tmp_path / "log", 60)
    assert ended.status == 3 and 0 < ended.seconds < 60
    assert (tmp_path / "log").read_text() == f"{check.ROOT}\n"


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_a_command_over_its_time_ends_as_after_ctrl_c(handler, tmp_path):
    before = signal.signal(signal.SIGINT, handler)  # ignored where a script runs in the background
    try:
        time_out(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)


def time_out(tmp_path):
    code = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('results')"
    ended = check.run([sys.executable, "-c", code], tmp_path / "log", 2)
    assert ended.status is None and ended.seconds < 30
    assert (tmp_path / "log").read_text() == "results\n"


def test_a_command_that_does_not_end_is_killed_with_what_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "GRACE_SECONDS", 0.2)
    sleep = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    start = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
    code = f"{start}; print(child.pid, flush=True); exec(sys.argv[1])"
    ended = check.run([sys.executable, "-c", code, sleep], tmp_path / "log", 2)
    assert ended.status is None and ended.seconds < 30
    child = int((tmp_path / "log").read_text())
    for _ in range(100):  # until the system has taken note
        if not is_running(child):
            break
        time.sleep(0.1)
    assert not is_running(child)


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True
    )
    return not state.stdout.startswith("Z")


def test_device():
    device, version = check._device()
    assert (device, version) == ("8 x cpu (cpu)", jax.__version__)


def test_device_where_jax_fails(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "none_such")
    device, version = check._device()
    assert device.startswith("JAX fails: ") and "none_such" in device and version == "?"
