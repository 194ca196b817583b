"""One run in two processes, as on two hosts of a Slurm job: what it computes, and how it stops."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import commands, tiny

pytestmark = pytest.mark.slow
FLAGS = {
    "data.examples_per_class": "5,",
    "train.batch_size": 16,
    "train.steps": 12,
    "train.eval_every": 4,
    "train.dropout": 0.2,
    "augment.shift": 0.1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts")
    with tiny.registered():
        tiny.write_weights(path / "tiny.safetensors")
    return path


def start(root, workdir, processes, **fields):
    """Starts a run on four fake devices, in so many processes."""
    flags = {"weights": root / "tiny.safetensors", **FLAGS, **fields}
    command = [
        sys.executable,
        "-c",
        tiny.COMMAND,
        "--config=configs/common.py",
        f"--workdir={workdir}",
    ]
    command += [f"--config.{name}={value}" for name, value in flags.items()]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={4 // processes}",
        "TL_CACHE": str(root / "cache"),
    }
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = []
    for number in range(processes):
        slurm = {
            "SLURM_JOB_ID": "1",
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_NTASKS": str(processes),
            "SLURM_PROCID": str(number),
            "SLURM_LOCALID": str(number),
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        }
        started.append(
            subprocess.Popen(
                [*command, "--multihost"] if processes > 1 else command,
                cwd=commands.ROOT,
                env={**environment, **slurm} if processes > 1 else environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def end(started):
    """Returns (statuses, standard errors)."""
    told = [process.communicate(timeout=300) for process in started]
    return [process.returncode for process in started], [err for _, err in told]


def test_two_processes_compute_what_one_does(root, tmp_path):
    for processes in (1, 2):
        statuses, errors = end(start(root, tmp_path / str(processes), processes))
        assert statuses == [0] * processes, errors
    one, two = (tiny.records(tmp_path / name) for name in ("1", "2"))
    assert [r.keys() for r in one] == [r.keys() for r in two]
    for name in ("train/loss", "train/grad_norm", "val/loss", "val/top1"):
        first, second = ([r[name] for r in records if name in r] for records in (one, two))
        np.testing.assert_allclose(first, second, rtol=1e-5)


def test_a_signal_to_one_process_stops_both_and_one_alone_goes_on(root, tmp_path):
    # Long enough for the signal to come in time; evaluations would take longer than the steps.
    fields = {"train.steps": 1000, "train.eval_every": 500}
    started = start(root, tmp_path, 2, **fields)
    while tiny.last_step(tmp_path) < 40 and all(process.poll() is None for process in started):
        time.sleep(0.05)
    started[1].send_signal(signal.SIGTERM)
    statuses, errors = end(started)
    assert statuses == [143, 143]
    step = tiny.last_step(tmp_path)
    for error in errors:
        assert f"stopped by SIGTERM after step {step} of 1000, which is saved" in error
        assert "Traceback" not in error
    (alone,) = start(root, tmp_path, 1, **fields)
    out, error = alone.communicate(timeout=300)
    assert alone.returncode == 0, error
    assert f"going on after step {step} of 1000" in out
    steps = [r["step"] for r in tiny.records(tmp_path) if "train/loss" in r]
    assert steps == list(range(1, 1001))
