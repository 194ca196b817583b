"""An entry point as a user starts it: in a process of its own, in the repository's root."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def run(module, *arguments, status=0):
    """Returns what a command prints, to stderr where it is to fail with `status`."""
    result = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == status, result.stderr
    return result.stdout if status == 0 else result.stderr
