"""Checkpoints in an object store: written on this machine, then sent there, whole or not at all."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tl import files, paths
from tl.errors import UserError
from tl.storage import copies

_INDEX = "index.json"


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
        digest = hashlib.sha256(f"{remote} {purpose}".encode()).hexdigest()[:16]
        # By a name that the next process finds: a kill leaves no copies behind for long.
        self.folder = Path(tempfile.gettempdir(), f"tl-checkpoints-{os.getuid()}-{digest}")
        self.close()
        self.folder.mkdir(mode=0o700)

    def fetch(self) -> None:
        """Brings the checkpoints here."""
        system = paths.file_system(self._remote)
        for step in self._steps():
            with contextlib.suppress(FileNotFoundError):  # a user has deleted a damaged one
                system.get(f"{self._remote}/{step}/", f"{self.folder / str(step)}/", recursive=True)

    def publish(self, steps: Sequence[int]) -> None:
        """Makes the store hold just these steps, which are in the folder here."""
        there = self._steps()
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

    def _steps(self) -> list[int]:
        return files.read_json(self._remote / _INDEX) or []


def remove(remote: Path) -> None:
    """Removes a folder of checkpoints in an object store; a kill leaves none that counts."""
    (remote / _INDEX).unlink(missing_ok=True)
    paths.remove_tree(remote)
