"""What a run writes about itself, each file whole or not at all."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from tl.errors import UserError

CHECKPOINTS = "checkpoints"

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


def start(
    config: ml_collections.ConfigDict,
    folder: str | None,
    name: str,
    *,
    overwrite: bool = False,
    resumable: bool = False,
) -> Path:
    """Makes a run's folder and writes `config.json` and `environment.json` into it.

    Args:
      config: every field of the run.
      folder: where to; None makes a new one, runs/<name>-<date>-<time>.
      name: of the config.
      overwrite: whether a finished run may be replaced, and one with checkpoints begun anew.
      resumable: whether this kind of run goes on from the checkpoints in its folder, if any; its
        metrics are then left as they are.

    Raises:
      UserError: the folder holds a finished run, or the checkpoints of another config, or cannot
        be written.
    """
    path = Path(os.path.expanduser(folder)) if folder else Path("runs")
    try:
        if not folder:
            path = _new_folder(name)
        finished = path / "result.json"
        if finished.exists() and not overwrite:
            raise UserError(
                f"{path} holds a finished run; give another --workdir, or --overwrite to replace it"
            )
        path.mkdir(parents=True, exist_ok=True)
        finished.unlink(missing_ok=True)
        checkpoints = path / CHECKPOINTS
        if checkpoints.is_dir() and not overwrite:
            _check_resumable(path, config, resumable)
        else:
            (path / "metrics.jsonl").unlink(missing_ok=True)
            if checkpoints.is_dir():
                shutil.rmtree(checkpoints)
        write_json(path / "config.json", config.to_dict())
        write_json(path / "environment.json", environment())
    except OSError as error:
        raise UserError(f"--workdir={path} cannot be written: {error.strerror}") from error
    return path


def _check_resumable(path: Path, config: ml_collections.ConfigDict, resumable: bool) -> None:
    """Raises UserError unless the run in a folder with checkpoints is this one."""
    from tl.fingerprint import differences  # imports JAX, which a misspelt flag need not wait for

    if not resumable:
        raise UserError(
            f"{path} holds the checkpoints of a fine-tuning run; give another --workdir, or "
            "--overwrite to remove them"
        )
    try:
        there = json.loads((path / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} has checkpoints, but its config.json cannot be read ({error}); give another "
            "--workdir, or --overwrite to begin anew"
        ) from error
    if lines := differences(json.loads(_json(config.to_dict())), there):
        raise UserError(
            f"{path} holds a run of another config. Give that one to go on, another --workdir, or "
            "--overwrite to begin anew; they differ in\n  " + "\n  ".join(lines)
        )


def _new_folder(name: str) -> Path:
    stem = Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    path, count = stem, 1
    while True:
        try:
            path.mkdir(parents=True)  # it fails for all but one of several runs of one second
            return path
        except FileExistsError:
            count += 1
            path = stem.with_name(f"{stem.name}-{count}")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically: a reader sees the old file or the whole new one."""
    text = _json(value)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    os.replace(partial, path)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=_plain) + "\n"


def append_jsonl(path: Path, record: Mapping[str, Any]) -> None:
    """Appends one record as a line."""
    with path.open("a") as file:
        file.write(json.dumps(record, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def environment() -> dict[str, Any]:
    """Returns versions, devices, revision and command: what is needed to repeat a run."""
    import jax

    devices = jax.devices()
    return {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
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
