"""Training processes that are killed or stopped, and go on as if nothing had happened."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests import commands, tiny
from tl.storage import checkpoint

STEPS = 30
# Whatever has a state of its own that a checkpoint could forget.
FLAGS = {
    "data.examples_per_class": "5,",
    "extract.threads": 2,
    "train.batch_size": 16,
    "train.steps": STEPS,
    "train.eval_every": 7,
    "train.checkpoint_every": 2,
    "train.ema_decay": 0.9,
    "train.dropout": 0.2,
    "train.freeze": "('stem',)",
    "train.unfreeze": "('stem@12',)",
    "optim.name": "adamw",
    "optim.decay": "l2sp",
    "optim.weight_decay": 0.1,
    "augment.shift": 0.1,
    "augment.mixup": 0.2,
    "report": False,
}


class Runs:
    """Starts one command in processes of their own, two fake devices each."""

    def __init__(self, root):
        with tiny.registered():
            weights = tiny.write_weights(root / "tiny.safetensors")
        self.flags = {"weights": weights, **FLAGS}
        self.environment = {
            **os.environ,
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
            "PYTHONUNBUFFERED": "1",  # what is killed does not write out what it still holds
            "TL_CACHE": str(root / "cache"),
            "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def start(self, path, **other):
        flags = {**self.flags, **other}
        command = [
            sys.executable,
            "-c",
            tiny.COMMAND,
            "--config=configs/common.py",
            *(f"--config.{name}={value}" for name, value in flags.items()),
        ]
        return subprocess.Popen(
            [*command, f"--workdir={path}"],
            cwd=commands.ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, path):
        """Runs to the end and returns the step it went on from."""
        out, err = (process := self.start(path)).communicate()
        assert process.returncode == 0, err
        return resumed_from(out)

    def kill(self, path, number, *, seconds=0.0, step=0):
        """Sends a signal after a time, and once a step is recorded by this process.

        Returns:
          (status, step recorded last, standard output, standard error)
        """
        process = self.start(path)
        start = time.time_ns()
        time.sleep(seconds)
        while process.poll() is None and step:
            if written_since(path, start) and tiny.last_step(path) >= step:
                break
            time.sleep(0.002)
        process.send_signal(number)
        out, err = process.communicate()
        return process.returncode, tiny.last_step(path), out, err


def written_since(path, time_ns):
    file = path / "metrics.jsonl"
    return file.exists() and file.stat().st_mtime_ns > time_ns


def resumed_from(out):
    found = re.search(rf"going on after step (\d+) of {STEPS}", out)
    return int(found[1]) if found else 0


def assert_same_end(path, whole):
    assert (path / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    weights = "model.safetensors"
    assert (path / weights).read_bytes() == (whole / weights).read_bytes()
    results = [json.loads((p / "result.json").read_text()) for p in (path, whole)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]
    there = [[p.name for p in (q / "checkpoints").iterdir()] for q in (path, whole)]
    steps = [sorted(filter(str.isdigit, names)) for names in there]
    assert steps[0] == steps[1]
    for step in map(int, steps[0]):
        (state, about), (expected, expected_about) = (
            checkpoint.read(p / "checkpoints", step) for p in (path, whole)
        )
        assert jax.tree.structure(state) == jax.tree.structure(expected)
        for leaf, other in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(leaf, other, strict=True)
        for name in ("curve", "sums"):
            assert about["progress"][name] == expected_about["progress"][name]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def whole(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    assert runs.finish(path) == 0
    losses = tiny.losses(path)
    assert len(losses) == STEPS == len(set(losses))
    return path


def kill_repeatedly(runs, path, seed, count):
    """Kills a run so often, first in its first seconds, then soon after a random new step."""
    rng = np.random.default_rng(seed)
    for kill in range(count):
        at_step = kill % 3 > 0
        status, reached, out, _ = runs.kill(
            path,
            signal.SIGKILL,
            seconds=0.0 if at_step else rng.uniform(0.2, 5.0),
            step=min(tiny.last_step(path) + int(rng.integers(1, 9)), STEPS - 1) if at_step else 0,
        )
        print(f"kill {kill + 1}: began at {resumed_from(out)}, recorded up to {reached}")
        if status == 0:  # it was faster; the end is to be the same
            return
        assert status == -signal.SIGKILL
    print(f"the last one went on from {runs.finish(path)}")


def test_the_command_writes_a_result(runs, tmp_path):
    simple = {"train.steps": 1, "train.unfreeze": "()", "train.dropout": 0.0}
    simple |= {"train.ema_decay": 0.0, "augment.mixup": 0.0, "augment.shift": 0.0}
    process = runs.start(tmp_path, **simple)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == {"planned": 1, "done": 1}
    assert f"written: {tmp_path}" in out


@pytest.mark.slow  # tests/test_runs_finetune.py has a stopped run in one process
def test_a_killed_run_ends_as_if_it_had_not_been(runs, whole, tmp_path):
    kill_repeatedly(runs, tmp_path, seed=0, count=3)
    assert_same_end(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 7))
def test_many_kills(seed, runs, whole, tmp_path):
    kill_repeatedly(runs, tmp_path, seed, count=5)
    assert_same_end(tmp_path, whole)


@pytest.mark.slow  # tests/test_runs_finetune.py has it in one process
def test_a_stopped_run_says_so_and_goes_on(runs, whole, tmp_path):
    began = 0
    for number, step, status in ((signal.SIGTERM, 3, 143), (signal.SIGINT, 12, 130)):
        returned, reached, out, err = runs.kill(tmp_path, number, step=step)
        assert (returned, resumed_from(out)) == (status, began)
        assert re.fullmatch(
            rf"stopped by {number.name} after step {reached} of {STEPS}, which is saved; the same "
            rf"command with --workdir={tmp_path} goes on from there\n",
            err,
        )
        assert step <= reached < STEPS
        assert not (tmp_path / "result.json").exists()
        began = reached
    assert runs.finish(tmp_path) == began
    assert_same_end(tmp_path, whole)
