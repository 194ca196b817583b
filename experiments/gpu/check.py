"""The GPU tests, then the benchmark's section gpu, each with a time limit; a summary of both."""

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from experiments.benchmark import rows
from tl import files
from tl.errors import UserError
from tl.files import Log

ROOT = Path(__file__).parents[2]
MARK = "pytest.mark.gpu"
# RESULT is `FILE` of `experiments.benchmark.suite`, which imports JAX.
FILES = ("tests.log", "benchmark.log", "benchmark.json", "summary.txt")
TESTS, BENCHMARK, RESULT, SUMMARY = FILES
# Before anything runs: a machine without its GPU is then seen in the first lines.
DEVICES = """
import jax
for device in jax.devices():
    print(jax.__version__, device.platform, device.device_kind, sep=chr(9))
"""
ENVIRONMENT = {
    "COLUMNS": "160",  # to which pytest cuts the reasons of failures
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the GPU
}
DEVICE_SECONDS = 120
GRACE_SECONDS = 30  # to write what it has, of a command that is over its time


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
      status: exit status, negative for a signal; None where its time was over.
      seconds: that it took.
    """

    status: int | None
    seconds: float

    def __str__(self) -> str:
        how = {None: "stopped, its time was over", 0: "done"}
        return f"{how.get(self.status, f'exit status {self.status}')}, {self.seconds:.0f} s"


def check(
    out: Path,
    *,
    test_seconds: float,
    benchmark_seconds: float,
    processes: int,
    benchmark_flags: Sequence[str] = (),
    log: Log = print,
) -> bool:
    """Runs both and logs the summary; the second runs also where the first fails.

    Args:
      out: folder for FILES.
      test_seconds, benchmark_seconds: time limits.
      processes: of pytest.
      benchmark_flags: more flags for the benchmark.
      log: takes a line of text.

    Returns:
      Whether tests passed and none failed, and the benchmark ended well, both in their time.

    Raises:
      UserError: the folder holds one of FILES or cannot be made, or this tree has no tests.
    """
    if not (ROOT / "tests").is_dir():
        raise UserError(f"expected the tests in {ROOT}; run this in a copy of the source tree")
    if earlier := [name for name in FILES if (out / name).exists()]:
        raise UserError(f"{out} holds {earlier[0]} of an earlier check; give another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error
    out = out.resolve()
    device, version = _device()
    log(f"{device}, jax {version}")
    python = [sys.executable, "-m"]
    # Only files with such tests, since each process would import all of the others.
    marked = [file for file in sorted(ROOT.glob("tests/test_*.py")) if MARK in file.read_text()]
    arguments = [*map(str, marked), "-m", "gpu", "-n", str(processes), "-p", "no:cacheprovider"]
    log(f"tests: up to {test_seconds:.0f} s, {out / TESTS}")
    tested = run([*python, "pytest", *arguments], out / TESTS, test_seconds)
    log(f"benchmark: up to {benchmark_seconds:.0f} s, {out / BENCHMARK}")
    measured = run(
        [*python, "experiments.benchmark", f"--workdir={out}", "--sections=gpu", *benchmark_flags],
        out / BENCHMARK,
        benchmark_seconds,
    )
    numbers, failed = outcome((out / TESTS).read_text(errors="replace"))
    found = (files.read_json(out / RESULT) or {}).get("rows", [])
    text = summary(device, version, numbers, failed, tested, found, measured)
    (out / SUMMARY).write_text(text + "\n")
    log(f"\n{text}\n\nwritten: {out}")
    return " passed" in numbers and tested.status == measured.status == 0


def run(command: Sequence[str], log_file: Path, seconds: float) -> Ended:
    """Runs a command in the source tree, its output in a file.

    Over its time it gets what Ctrl-C sends, at which pytest still writes its results; if that does
    not end it, it is killed, and with it all that it started.
    """
    began = time.monotonic()
    # In the background of a script Ctrl-C is ignored, also by what is started there.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with log_file.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # so that all that it starts can be killed
        )
        status: int | None
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):  # all have ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Ended(status, time.monotonic() - began)


def outcome(text: str) -> tuple[str, list[str]]:
    r"""Returns what pytest's output says at its end.

    >>> outcome("= short test summary info =\nFAILED a.py::b - why\n1 failed, 2 passed in 3.0s\n")
    ('1 failed, 2 passed', ['a.py::b - why'])

    Args:
      text: the output; it may be cut short.

    Returns:
      The numbers, '' where there are none; name and reason of each test that failed.
    """
    numbers = re.findall(r"^=*\s*(\d+ \w+(?:, \d+ \w+)*) in [\d.]+s", text, re.MULTILINE)
    _, _, end = text.rpartition("short test summary info")
    failed = re.findall(r"^(?:FAILED|ERROR) (.+)$", end, re.MULTILINE)
    return (numbers[-1] if numbers else ""), failed


def summary(
    device: str,
    version: str,
    numbers: str,
    failed: Sequence[str],
    tested: Ended,
    measured_rows: Sequence[rows.Row],
    measured: Ended,
) -> str:
    """Returns the table of what was tested and measured."""
    lines = [("device", device), ("jax", version), ("tests", f"{numbers or 'none ran'}; {tested}")]
    lines += [("failed", text) for text in failed]
    lines += [("benchmark", f"{measured}" if measured_rows else f"no rows; {measured}")]
    text = tabulate(lines, tablefmt="plain", disable_numparse=True)
    return f"{text}\n\n{rows.table(measured_rows)}" if measured_rows else text


def _device() -> tuple[str, str]:
    """Returns JAX's devices, such as `1 x NVIDIA H100 80GB HBM3 (gpu)`, and its version.

    In a process of its own, since the one that asks JAX takes most of the GPU's memory.
    """
    try:
        shown = subprocess.run(
            [sys.executable, "-c", DEVICES],
            capture_output=True,
            text=True,
            check=True,
            timeout=DEVICE_SECONDS,
        ).stdout
    except subprocess.TimeoutExpired:
        return f"JAX did not say within {DEVICE_SECONDS} s", "?"
    except subprocess.CalledProcessError as error:
        return f"JAX fails: {(error.stderr.strip().splitlines() or ['?'])[-1]}", "?"
    lines = [line.split("\t") for line in shown.splitlines()]
    version, platform, kind = lines[0]
    return f"{len(lines)} x {kind} ({platform})", version
