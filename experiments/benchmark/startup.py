"""Seconds until something happens: imports, and the quickstart with an empty and a warm cache."""

import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from experiments.benchmark import contest, rows
from experiments.benchmark.contest import Contestant, Outcome
from experiments.benchmark.options import Options
from experiments.benchmark.peers import Work


def measure(options: Options, limits: Mapping[str, float], log: contest.Log) -> list[rows.Row]:
    """Returns a row of imports, in a new process every time, and two of the quickstart."""
    keras = {"KERAS_BACKEND": "jax"}
    contestants = [
        Contestant("ours", command, (["-c", "import tl.runs.probe"],)),
        Contestant("keras", command, (["-c", "import keras"],), ("keras",), keras),
        Contestant("torch", command, (["-c", "import torch, timm"],), ("torch", "timm")),
        Contestant("sklearn", command, (["-c", "import sklearn.linear_model"],), ("sklearn",)),
    ]
    asked = [c for c in contestants if c.name in ("ours", *options.peers)]
    outcomes = _run(asked, options.rounds, log)
    found = [rows.make("startup", "s", outcomes, case="import", dtype="")]
    if not options.quickstart:
        return found
    with tempfile.TemporaryDirectory() as folder:
        environment = {"TL_CACHE": f"{folder}/cache"}
        for cache in ("empty", "warm"):
            arguments = ["-m", "experiments.probe", f"--config={options.quickstart}"]
            arguments.append(f"--workdir={folder}/{cache}")
            contestant = Contestant("ours", command, (arguments,), environment=environment)
            outcomes = _run([contestant], 1, log)
            case = f"{Path(options.quickstart).stem}, {cache} cache"
            found.append(rows.make("startup", "s", outcomes, case=case, dtype=""))
    return found


def _run(contestants: list[Contestant], rounds: int, log: contest.Log) -> dict[str, Outcome]:
    """As `contest.run`; the memory is that of what was started."""
    outcomes = contest.run(contestants, rounds=rounds, seconds=0, log=log)
    return {
        name: outcome if outcome.error else dataclasses.replace(outcome, peak_mib=outcome.value)
        for name, outcome in outcomes.items()
    }


def command(arguments: list[str]) -> Work:
    """Runs Python with some arguments, from start to end; returns its peak memory in MiB."""
    # What another cache of compiled programs holds must not help.
    hidden = "JAX_COMPILATION_CACHE_DIR"
    environment = {name: value for name, value in os.environ.items() if name != hidden}

    def work() -> float:
        finished = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, env=environment
        )
        if finished.returncode:
            raise RuntimeError(f"{arguments} ended with {finished.returncode}: {finished.stderr}")
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / contest.RUSAGE_UNIT

    return work
