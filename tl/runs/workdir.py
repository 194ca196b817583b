"""A run's folder: one process works in it, and only a valid run replaces a finished one."""

import contextlib
import datetime
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_collections
from filelock import FileLock, Timeout

from tl import files, paths
from tl.errors import UserError
from tl.fields import MAY_CHANGE, config_fields, differences
from tl.runs.environment import environment
from tl.storage.lease import Lease, lock
from tl.storage.mirror import remove as remove_remote

CHECKPOINTS = "checkpoints"
CONFIG, ENVIRONMENT, RESULT = "config.json", "environment.json", "result.json"
PAGE = "report.html"
# Files that runs of all kinds write beside these; a new run in the folder removes them. The first
# two make a run finished or resumable. They go first, so that a kill leaves no half of a run.
OUTPUTS = (
    RESULT,
    CHECKPOINTS,
    "metrics.jsonl",
    PAGE,
    "predictions.npz",
    "features.npz",
    "examples.json",
    "examples/*.png",
    "accuracy_over_endpoint.png",
    "augmented.png",
    "learning_curve.png",
    "parameters.txt",
    "tensorboard/events.*",
    "model.safetensors",
    "head.safetensors",
    "head.seed*.safetensors",
)

# By folder: the locks that this process holds, and the writes that `begin` has still to do.
_locks: dict[Path, FileLock | Lease] = {}
_waiting: dict[Path, Callable[[], None]] = {}
_new: set[Path] = set()  # folders that `start` made and no run has begun in


def start(
    config: ml_collections.ConfigDict,
    folder: str | None,
    name: str,
    *,
    overwrite: bool = False,
    resumable: bool = False,
) -> Path:
    """Makes a run's folder, locks it, and writes `config.json` and `environment.json`.

    A run that is to be replaced stays as it is until `begin`. Only process 0 writes. The folder of
    a study is not locked: its processes share it and take turns with its runs.

    Args:
      config: every field of the run.
      folder: path of the folder; None makes a new one, runs/<name>-<date>-<time>.
      name: of the config.
      overwrite: whether a finished run may be replaced, and one with checkpoints begun anew.
      resumable: whether this kind of run goes on from checkpoints in its folder. Its metrics then
        stay.

    Raises:
      UserError: the folder holds a finished run, a study, the checkpoints of another config, or
        files of these names that no run wrote; another process works in it; or it cannot be
        written.
    """
    from tl import hosts  # imports JAX, which a misspelt flag need not wait for

    path = paths.as_path(folder) if folder else Path("runs")
    with _written(path):
        if not folder:
            path = _new_folder(name)
        new = not folder or not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        first, study = hosts.is_first(), "axes" in config
        if first and not study:
            _lock(path)
            if new:
                _new.add(path.resolve())
        if (path / RESULT).exists() and not overwrite:
            raise UserError(
                f"{path} holds a finished run; give another --workdir, or --overwrite to replace it"
            )
        _check_own(path)
        if goes_on := _holds_study(path):
            if not study:
                raise UserError(f"{path} holds a study; give another --workdir")
        elif goes_on := (path / CHECKPOINTS).is_dir() and not overwrite:
            _check_resumable(path, config, resumable)
        described = config.to_dict(), environment()

        def write() -> None:
            if not first:
                return
            if not goes_on:
                _clear(path)
            files.write_json(path / ENVIRONMENT, described[1])
            files.write_json(path / CONFIG, described[0])

        hosts.barrier("start")  # every process has seen what is there
        if not goes_on and any((path / name).exists() for name in (RESULT, CHECKPOINTS)):
            _check_weights(path, config)
            _waiting[path.resolve()] = write
        else:
            write()
    return path


def replaces(path: Path) -> bool:
    """Returns whether `begin` will replace a run in a folder."""
    return path.resolve() in _waiting


def lacks_page(config: ml_collections.ConfigDict, path: Path) -> bool:
    """Returns whether a folder holds a finished run of this config that ended before its page."""
    if (path / PAGE).exists() or files.read_json(path / RESULT) is None:
        return False
    there = files.read_json(path / CONFIG) or {}
    asked = config_fields(files.as_json(config.to_dict()))
    return bool(config.get("report")) and not differences(asked, config_fields(there))


def begin(path: Path) -> None:
    """Replaces the run that `start` found in a folder; every run calls it before it writes there.

    By then the run knows that its config can be carried out. So no result is lost to a misspelt
    name. Every process calls it, and goes on when process 0 is done.

    Raises:
      UserError: the folder cannot be written.
    """
    from tl import hosts

    _new.discard(path.resolve())
    hosts.barrier("begin")  # every process has seen in `start` what is there
    if write := _waiting.pop(path.resolve(), None):
        with _written(path):
            write()
    hosts.barrier("begun")


def remove_new() -> None:
    """Removes the folders that `start` has made in vain, since no run began in them."""
    for path in list(_new):
        for name in (CONFIG, ENVIRONMENT):
            (path / name).unlink(missing_ok=True)
        leave(path)
        if not paths.is_remote(path):  # where the number of a lease is not used twice
            (path / ".lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds what is not ours
            path.rmdir()
        _new.discard(path)


def leave(path: Path) -> None:
    """Unlocks a folder that `start` has locked, before this process ends."""
    _waiting.pop(path.resolve(), None)
    if lock := _locks.pop(path.resolve(), None):
        lock.release()


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = paths.remote_error(error)
        if isinstance(error, OSError) and not text:
            text = error.strerror or str(error)
        if not text:
            raise
        raise UserError(f"--workdir={path} cannot be written: {text}") from error


def _lock(path: Path) -> None:
    """Keeps other processes out until this one ends, in whatever way."""
    if (key := path.resolve()) in _locks:
        return
    held = lock(path / ".lock")
    try:
        held.acquire()
    except Timeout:
        who = f" ({held.holder()})" if isinstance(held, Lease) else ""
        raise UserError(
            f"another process{who} is at work in {path}; wait until it ends, or give another "
            "--workdir"
        ) from None
    except NotImplementedError:  # a file system without locks
        return
    _locks[key] = held


def _check_own(path: Path) -> None:
    """Raises UserError where a folder holds files that a run would replace and none wrote."""
    if (path / ENVIRONMENT).exists():  # which every run writes first
        return
    if there := [name for name in (CONFIG, *OUTPUTS) if any(path.glob(name))]:
        raise UserError(
            f"{path} is not the folder of a run, and holds files that one would replace: "
            f"{', '.join(there)}; give another --workdir, or move them"
        )


def _holds_study(path: Path) -> bool:
    return "axes" in (files.read_json(path / CONFIG) or {})


def _check_weights(path: Path, config: ml_collections.ConfigDict) -> None:
    """Raises UserError where a run would delete the weights that it starts from."""
    name = config.get("weights") or "/"
    weights = paths.as_path(name) if paths.is_remote(name) else Path(os.path.expanduser(name))
    if weights.exists() and weights.resolve().is_relative_to(path.resolve()):
        raise UserError(
            f"{weights} lies in the run that --overwrite would replace; give another --workdir",
            field="weights",
        )


def _clear(path: Path) -> None:
    """Removes the files of an earlier run, halves left by a kill included."""
    partial = [f".{name}.*" for name in (*OUTPUTS, CONFIG, ENVIRONMENT)]
    for found in [file for name in (*OUTPUTS, *partial) for file in path.glob(name)]:
        if found.name == CHECKPOINTS and found.is_dir() and not found.is_symlink():
            remove_checkpoints(path)
        elif found.is_symlink() or not found.is_dir():
            found.unlink()
        else:
            shutil.rmtree(found)  # what a kill has left
    for name in ("examples", "tensorboard"):
        with contextlib.suppress(OSError):  # there is none, or it holds other files
            (path / name).rmdir()


def remove_checkpoints(path: Path) -> None:
    """Removes a run's checkpoints, all or none as seen under their name; there may be none."""
    folder = path / CHECKPOINTS
    if paths.is_remote(folder):
        remove_remote(folder)
    elif folder.is_dir():
        shutil.rmtree(folder.rename(files.partial_name(folder)))


def _check_resumable(path: Path, config: ml_collections.ConfigDict, resumable: bool) -> None:
    """Raises UserError unless the run in a folder with checkpoints is this one."""
    if not resumable:
        raise UserError(
            f"{path} holds the checkpoints of a fine-tuning run; give another --workdir, or "
            "--overwrite to remove them"
        )
    there = files.read_json(path / CONFIG)
    if there is None:
        raise UserError(
            f"{path} has checkpoints, but its config.json is missing or damaged; give another "
            "--workdir, or --overwrite to begin anew"
        )
    asked, there = config_fields(files.as_json(config.to_dict())), config_fields(there)
    for name in MAY_CHANGE:
        asked[name] = there.get(name)
    if lines := differences(asked, there):
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
