"""Versions, devices, revision and command of a run, as JSON."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tl.results.called import started_as_tl

PACKAGES = (
    "tl",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "grain",
    "tensorflow-datasets",
    "tensorstore",
    "numpy",
    "pillow",
    "scikit-learn",
)


def environment() -> dict[str, Any]:
    """Returns the versions, devices, revision and command that are needed to repeat a run."""
    import jax

    devices = jax.devices()
    return {
        "command": shlex.join(
            ["tl", *sys.orig_argv[2:]] if started_as_tl() else ["python", *sys.orig_argv[1:]]
        ),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": _git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "versions": {name: _version(name) for name in PACKAGES},
        "devices": [
            {"kind": kind, "count": sum(d.device_kind == kind for d in devices)}
            for kind in sorted({d.device_kind for d in devices})
        ],
        "processes": jax.process_count(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Returns the commit of this code, with `+changes` where the tree differs from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
