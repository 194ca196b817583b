"""Locks that one process holds: of the operating system, or leases in an object store."""

import atexit
import contextlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout

from tl import paths

BEAT_SECONDS = 10.0  # between two signs of life of a holder
# Without a sign of life for so long, a lease is over.
LEASE_SECONDS = 60.0
_POLL_SECONDS = 1.0
_DIGITS = 8

# What this process has seen of leases that others hold: the last content, and when it first saw it.
_seen: dict[tuple[str, int], tuple[bytes, float]] = {}


class Lease:
    """A lock of an object store, with the methods of `filelock.FileLock` that are used here.

    The n-th holder has the object `<name>.<n>`, which the store lets only one process create. The
    highest number holds; its holder writes its object anew every BEAT_SECONDS. Another process may
    create the next number where the highest one is released, or has not changed for LEASE_SECONDS
    while that process looked on. So no clocks are compared. A holder that is cut off ends itself
    before that; one that was frozen ends within seconds, once it finds itself replaced.
    """

    def __init__(self, path: Path):
        """Names a lease.

        Args:
          path: of an object store; the names of its objects begin with it.
        """
        self._path = path
        self._number = 0
        self._released = threading.Event()
        self._alive = 0.0  # when the last sign of life that came through was given
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "Lease":
        """Takes the lease, or raises `filelock.Timeout` at once; a later try goes on looking."""
        self._acquire(wait=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Takes the lease, after looking on until its holder shows life or the lease is over.

        Raises:
          filelock.Timeout: another process holds it.
        """
        self._acquire(wait=True)

    def _acquire(self, wait: bool) -> None:
        while True:
            number, content = self._last()
            standing = _standing(self._path, number, content)
            if standing == "over":
                if not paths.create(self._object(number + 1), _text(0)):
                    raise Timeout(str(self._path))
                self._hold(number + 1)
                return
            if standing == "alive" or not wait:
                raise Timeout(str(self._path))
            time.sleep(_POLL_SECONDS)

    def release(self) -> None:
        """Gives the lease up; calling it again does nothing."""
        if not self._threads:
            return
        atexit.unregister(self.release)
        self._released.set()
        for thread in self._threads:
            thread.join(BEAT_SECONDS)
        self._threads = []
        # Left there: a number that was used twice could not tell two holders apart.
        with contextlib.suppress(Exception):  # it is over after LEASE_SECONDS in any case
            self._object(self._number).write_bytes(b"{}")

    def holder(self) -> str:
        """Returns who holds the lease, for a message: `host, process 123`."""
        described = _parsed(self._last()[1])
        return f"{described.get('host', 'unknown')}, process {described.get('process', 'unknown')}"

    def _hold(self, number: int) -> None:
        self._number = number
        for old in self._numbers():
            if old < number:
                with contextlib.suppress(OSError):
                    self._object(old).unlink()
        self._released.clear()
        atexit.register(self.release)
        self._alive = time.monotonic()
        self._threads = [
            threading.Thread(target=target, name="lease", daemon=True)
            for target in (self._beat, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    def _beat(self) -> None:
        """Gives signs of life, until the lease is released; ends the process where it is lost."""
        beats = 0
        while not self._released.wait(BEAT_SECONDS):
            # What the store cannot do now, perhaps it can at the next beat.
            with contextlib.suppress(Exception):
                began, beats = time.monotonic(), beats + 1
                self._object(self._number).write_bytes(_text(beats))
                if max(self._numbers(), default=0) != self._number:
                    _end(f"another process has taken over {self._path.parent}")
                self._alive = began

    def _watch(self) -> None:
        """Ends the process before its lease is over; a request to the store may never return."""
        while not self._released.wait(BEAT_SECONDS / 4):
            if time.monotonic() - self._alive > LEASE_SECONDS - BEAT_SECONDS:
                _end(f"{self._path.parent} has not answered for almost {LEASE_SECONDS:.0f} s")

    def _object(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number:0{_DIGITS}d}")

    def _numbers(self) -> list[int]:
        found = self._path.parent.glob(f"{self._path.name}.{'[0-9]' * _DIGITS}")
        return [int(path.name.rpartition(".")[2]) for path in found]

    def _last(self) -> tuple[int, bytes]:
        """Returns the highest number, 0 for none, and its object's content."""
        while number := max(self._numbers(), default=0):
            with contextlib.suppress(FileNotFoundError):  # the next holder has just removed it
                return number, self._object(number).read_bytes()
        return 0, b"{}"


def lock(path: Path) -> FileLock | Lease:
    """Returns a lock that ends with this process, in whatever way that ends; it does not wait.

    Args:
      path: of its file.
    """
    return Lease(path) if paths.is_remote(path) else FileLock(path, timeout=0)


def _standing(path: Path, number: int, content: bytes) -> str:
    """Returns whether a lease is 'over', its holder 'alive', or that is not known yet: ''."""
    described = _parsed(content)
    if "process" not in described or _has_ended(described):
        return "over"
    key = (os.fspath(path), number)
    before = _seen.setdefault(key, (content, time.monotonic()))
    if before[0] != content:
        _seen[key] = (content, time.monotonic())
        return "alive"
    return "over" if time.monotonic() - before[1] > LEASE_SECONDS else ""


def _has_ended(described: dict[str, object]) -> bool:
    """Returns whether a holder was a process of this machine, and is no more."""
    if not _boot() or described.get("boot") != _boot():
        return False
    try:
        os.kill(int(str(described["process"])), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _text(beats: int) -> bytes:
    described = {
        "host": socket.gethostname(), "process": os.getpid(), "boot": _boot(), "beats": beats
    }  # fmt: skip
    return json.dumps(described).encode()


def _parsed(content: bytes) -> dict[str, object]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _boot() -> str:
    """Returns what tells this machine, and its containers' processes, from all others; or ''."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _end(why: str) -> None:
    print(f"error: {why}, so this process has ended; nothing is lost", file=sys.stderr, flush=True)
    os._exit(1)
