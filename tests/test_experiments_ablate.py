"""A study as a user starts it: killed, gone on with, by two processes at once."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys

import pytest

from tests import commands, studies, tiny
from tl.studies.plan import make_plan

COMMAND = """
import runpy
from tests import tiny
tiny.register()
runpy.run_module("experiments.ablate", run_name="__main__", alter_sys=True)
"""
# It kills itself within the third run, at the first word of it.
KILLED = (
    """
import os, signal
from tl.studies import work

probe = work.JOBS["probe"]

def job(values, path, log):
    def say(line):
        if len(list(path.parent.glob("*/result.json"))) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        log(line)
    return probe(values, path, say)

work.JOBS["probe"] = job
"""
    + COMMAND
)
CONFIG = "--config=configs/study_solvers.py"
RUNS = 8  # 2 solvers, 2 numbers of examples, 2 seeds


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a study of a tiny network; takes flags that differ."""
    root = tmp_path_factory.mktemp("ablate")
    with tiny.registered():
        weights = tiny.write_weights(root / "tiny.safetensors")
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "TL_CACHE": str(root / "cache"),
        "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1",
    }
    flags = {
        "base.weights": weights,
        "base.endpoints": "('stage1',)",
        "base.preprocess.size": 16,
        "base.probe.l2": "(0.1, 1.0)",
        "axes.examples": "(5, 10)",
        "axes.seed": "(0, 1)",
        "axes.solver": "('logistic', 'ridge')",
        "report": False,
    }

    def started(path, command=COMMAND, **other):
        arguments = [f"--config.{name}={value}" for name, value in {**flags, **other}.items()]
        return subprocess.Popen(
            [sys.executable, "-c", command, CONFIG, *arguments, f"--workdir={path}"],
            cwd=commands.ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return started


def finished(path):
    return sorted((path / "runs").glob("*/result.json"))


@pytest.mark.slow  # tests/test_studies_work.py has two workers of one study
def test_killed_and_gone_on_with_by_two_processes(start, tmp_path):
    killed = start(tmp_path, KILLED)
    output = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, output
    before = {path: path.stat().st_mtime_ns for path in finished(tmp_path)}
    assert len(before) == 2
    assert not (tmp_path / "study.json").exists()

    both = [start(tmp_path), start(tmp_path)]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert len(finished(tmp_path)) == RUNS
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items())
    # Every other run is reported by the one process that did it.
    reported = [line for out, _ in outputs for line in out.splitlines() if ": test top-1 " in line]
    assert len(reported) == RUNS - len(before)
    # The features were there, or on their way, when the process was killed.
    logs = [path.read_text() for path in (tmp_path / "runs").glob("*/log.txt")]
    assert sum("features extracted" in log for log in logs) <= 2

    study = json.loads((tmp_path / "study.json").read_text())
    assert [run["status"] for run in study["runs"]] == ["done"] * RUNS
    assert len(study["cells"]) == 4
    assert {cell["seeds"] for cell in study["cells"]} == {2}
    assert len((tmp_path / "study.csv").read_text().splitlines()) == RUNS + 1
    assert (tmp_path / "accuracy.png").exists()


def test_a_failing_run_makes_the_status_1_and_is_named(start, tmp_path):
    axes = {"solver": "('logistc', 'ridge')", "seed": "(0,)", "examples": "(5,)"}
    process = start(tmp_path, **{f"axes.{name}": levels for name, levels in axes.items()})
    out, err = process.communicate()
    assert process.returncode == 1
    assert "failed: probe.solvers: no solver is called 'logistc'" in out
    assert re.search(r"\nlogistc +failed\n", out)
    assert err.endswith(
        "1 of 2 runs failed: logistc-examples5-seed0. Each has its reason in "
        f"{tmp_path}/runs/NAME/error.txt; the same command tries them again\n"
    )
    study = json.loads((tmp_path / "study.json").read_text())
    assert [run["status"] for run in study["runs"]] == ["failed", "done"]


@pytest.fixture
def another(tmp_path):
    """The folder of a study that was begun with another tolerance: its first run is finished."""
    config = runpy.run_path(CONFIG.removeprefix("--config="))["get_config"]()
    config.base.probe.tolerance = 0.5
    studies.finished(tmp_path, make_plan(config).runs[0])
    (tmp_path / "config.json").write_text("as it was")
    return tmp_path


def test_a_study_that_is_refused_writes_nothing(another):
    before = {path: path.stat().st_mtime_ns for path in another.rglob("*")}
    error = commands.run("experiments.ablate", CONFIG, f"--workdir={another}", status=2)
    assert f"{another}/runs/logistic-examples5-seed0 holds a run of another config" in error
    assert "--overwrite" in error
    assert "\n  probe.tolerance: asked 1e-08, stored 0.5\n" in error
    assert {path: path.stat().st_mtime_ns for path in another.rglob("*")} == before


def test_a_dry_run_says_what_is_in_the_way(another):
    out = commands.run("experiments.ablate", CONFIG, "--dry_run", f"--workdir={another}")
    first, second, *_ = out.splitlines()
    assert first.endswith(
        "px, missing, and a run of another config is in its place, for --overwrite to replace"
    )
    assert second.endswith("px, missing")
    assert "36 runs (36 probe), 0 finished, 36 to do now" in out


def test_a_dry_run_writes_nothing(tmp_path):
    path = tmp_path / "study"
    out = commands.run("experiments.ablate", CONFIG, "--dry_run", f"--workdir={path}")
    first, *_, last = out.splitlines()
    assert first == ("logistic-examples5-seed0: probe, features of 1,797 images at 64 px, missing")
    assert "36 runs (36 probe), 0 finished, 36 to do now" in out
    assert last == "seconds: unknown until a run of each kind is finished"
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/common.py"], "configs/common.py is no study but a single run"),
        ([CONFIG, "--config.columns=solvr"], "--config.columns: no axis is called 'solvr'; the n"),
        ([CONFIG, "--config.base.weigths=x"], "no field is called --config.base.weigths; the"),
        ([CONFIG, "--config.axes.seed=(0,a)"], "--config.axes.seed takes int values"),
    ],
)
def test_mistakes_are_messages(arguments, message):
    error = commands.run("experiments.ablate", *arguments, status=2)
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error
