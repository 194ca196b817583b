"""A command in several real processes over loopback, as on the hosts of a cluster."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests import commands, tiny

HEARTBEAT = 10  # seconds


def free_port():
    """Returns the number of a port that nobody uses."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def start(command, arguments, processes, *, devices=4, cache, slurm=False):
    """Starts a command, which knows the tiny network, on so many fake devices in all.

    Args:
      command: name in `experiments`.
      arguments: of the command line.
      processes: how many; one joins nobody.
      devices: of all processes together.
      cache: folder of the user's caches.
      slurm: whether Slurm's variables tell JAX of the cluster, not flags.

    Returns:
      A `subprocess.Popen` for each process.
    """
    port = free_port()
    joined = [f"--heartbeat={HEARTBEAT}"]
    if slurm:
        joined += ["--multihost"]
    else:
        joined += [f"--coordinator=localhost:{port}", f"--num_processes={processes}"]
    return [
        subprocess.Popen(
            [sys.executable, "-c", tiny.COMMAND_OF.format(command), *map(str, arguments)]
            + (joined if processes > 1 else [])
            + ([f"--process_id={number}"] if processes > 1 and not slurm else []),
            cwd=commands.ROOT,
            env={
                **os.environ,
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices // processes}",
                "TL_CACHE": str(cache),
                **(_slurm(number, processes, port) if slurm else {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]


def _slurm(number, processes, port):
    return {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(processes),
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
    }


def end(started, seconds=300):
    """Returns (statuses, what they wrote to standard output, and to standard error)."""
    try:
        told = [process.communicate(timeout=seconds) for process in started]
    finally:
        for process in started:
            process.kill()
    return [p.returncode for p in started], [out for out, _ in told], [err for _, err in told]


def child(process):
    """Returns the number of the process that does the work of one of several."""
    while process.poll() is None:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended
                if stat.read_text().rpartition(")")[2].split()[1] == str(process.pid):
                    return int(stat.parent.name)
        time.sleep(0.05)
    raise AssertionError(process.stderr.read())
