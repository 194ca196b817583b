"""Checkpoints in an object store: written on this machine, then sent there, whole or not at all."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tl import files, paths
from tl.errors import UserError
from tl.storage import copies

_INDEX = "index.json"


def scratch(remote: Path, purpose: str) -> Path:
    """Makes an empty folder of this machine for what is to be sent to an object store.

    It has a name that the next process finds, so a kill leaves no copies behind for long.

    Args:
      remote: where it is sent to.
      purpose: tells the folders of this machine's processes apart.
    """
    name = f"tl-{os.getuid()}-{paths.digest(remote, purpose)}"
    folder = Path(tempfile.gettempdir(), name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


class Mirror:
    """A folder of checkpoints in an object store, and the one of this machine that it is made from.

    Orbax needs a folder that it can rename in, which S3 has not. So it writes here, and a finished
    checkpoint is sent. It counts from when the index there names it, which is one write; one that
    is to go leaves the index first.
    """

    def __init__(self, remote: Path, purpose: str):
        """Makes an empty folder here.

        Args:
          remote: the folder in the object store.
          purpose: tells the folders of this machine's processes apart.
        """
        self._remote = remote
        self.folder = scratch(remote, purpose)

    def clear(self) -> None:
        """Removes what a kill has left there: checkpoints that do not count."""
        for step in uncounted(self._remote):
            paths.remove_tree(self._remote / step)

    def fetch(self) -> None:
        """Brings the checkpoints here."""
        for step in _counted(self._remote):
            names = list(paths.files_below(self._remote / str(step)))  # none of one deleted by hand
            here = [self.folder / str(step) / name for name in names]
            for file in here:
                file.parent.mkdir(parents=True, exist_ok=True)
            there = [f"{self._remote}/{step}/{name}" for name in names]
            paths.file_system(self._remote).get(there, list(map(str, here)))

    def publish(self, steps: Sequence[int]) -> None:
        """Makes the store hold just these steps, which are in the folder here."""
        there = _counted(self._remote)
        for step in set(steps) - set(there):
            copies.send(self.folder / str(step), self._remote / str(step))
        files.write_json(self._remote / _INDEX, sorted(steps))
        for step in set(there) - set(steps):
            paths.remove_tree(self._remote / str(step))

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Within it, errors name the folder in the object store, not the one here."""
        try:
            yield
        except UserError as error:
            error.args = (str(error).replace(str(self.folder), str(self._remote)),)
            raise

    def close(self) -> None:
        """Removes the folder here."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _counted(remote: Path) -> list[int]:
    """Returns the steps that a folder's index names."""
    try:
        steps: list[int] = json.loads((remote / _INDEX).read_text())
        return steps
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise UserError(
            f"{remote / _INDEX} is damaged ({error}); write into it the list of the steps beside "
            "it that are whole, such as [100, 200]"
        ) from error


def uncounted(remote: Path) -> list[str]:
    """Returns names of steps in a folder that do not count: on their way in, or out."""
    counted = _counted(remote)
    steps = [path.name for path in remote.glob("*") if path.name.isdigit()]
    return [name for name in steps if int(name) not in counted]


def remove(remote: Path) -> None:
    """Removes a folder of checkpoints in an object store; a kill leaves none that counts."""
    (remote / _INDEX).unlink(missing_ok=True)
    paths.remove_tree(remote)
