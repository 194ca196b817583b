"""Contestants in processes of their own, which take turns; rates, spread and memory of each.

A process each, because threads, allocators and settings of one framework must not disturb another,
and because peak memory is a process's. Turns go round, A B C A B C, so that whatever else the
machine does meets all of them; a contestant whose turn it is not waits for a message.
"""

import contextlib
import dataclasses
import importlib.util
import multiprocessing
import os
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

from tl.files import Log

RUSAGE_UNIT = 1024 if sys.platform == "linux" else 1024**2  # of ru_maxrss in a MiB

_ENVIRONMENT = {
    # All contestants are there at once: none may take the accelerator's memory for itself.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "PYTHONWARNINGS": "ignore",
}


@dataclasses.dataclass(frozen=True)
class Contestant:
    """What is to be measured, as it can be sent to another process.

    Attributes:
      name: in results.
      factory: of a module; with `arguments` it builds, compiles and warms up, and returns a
        function of nothing that does one unit of work and ends when the result is on the host.
      arguments: that can be pickled.
      needs: packages without which it is left out.
      environment: variables of its process.
    """

    name: str
    factory: Callable[..., Callable[[], Any]]
    arguments: tuple = ()
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was measured of a contestant.

    Attributes:
      rates: units of work a second, of each turn.
      value: what its last unit of work returned.
      ready_mib: resident memory before the first turn.
      peak_mib: the most it ever was.
      error: why nothing was measured, or ''.
    """

    rates: tuple[float, ...] = ()
    value: Any = None
    ready_mib: float = 0.0
    peak_mib: float = 0.0
    error: str = ""

    @property
    def median(self) -> float:
        """The median rate."""
        return statistics.median(self.rates)


def run(
    contestants: Sequence[Contestant],
    *,
    rounds: int,
    seconds: float,
    log: Log = print,
    together: Collection[str] = (),
) -> dict[str, Outcome]:
    """Lets contestants take turns and returns what was measured of each, by name.

    One that is not installed, or fails, is reported and has an `error`; the others go on.

    Args:
      contestants: names differ.
      rounds: turns of each.
      seconds: a turn repeats the work until these have passed; 0 for once.
      log: takes a line of text.
      together: names of those who build at the same time, after all others: compilers of minutes.
    """
    outcomes = {c.name: Outcome(error=absent(c)) for c in contestants}
    with contextlib.ExitStack() as stack:
        workers: dict[str, _Worker] = {}
        building: dict[str, _Worker] = {}
        for contestant in sorted(contestants, key=lambda c: c.name in together):
            if outcomes[contestant.name].error:
                continue
            building[contestant.name] = stack.enter_context(_started(contestant))
            if contestant.name not in together:  # none builds while another does
                _receive_built(building, workers, outcomes)
        _receive_built(building, workers, outcomes)
        rates: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                if not outcomes[name].error:
                    with _noting_failure(outcomes, name):
                        rates[name].append(worker.ask(seconds))
        for name, worker in workers.items():
            if not outcomes[name].error:
                with _noting_failure(outcomes, name):
                    outcomes[name] = Outcome(tuple(rates[name]), *worker.ask(None))
    for name, outcome in outcomes.items():
        if outcome.error:
            log(f"{name}: {outcome.error}")
    return outcomes


def _receive_built(
    building: dict[str, "_Worker"], workers: dict[str, "_Worker"], outcomes: dict[str, Outcome]
) -> None:
    """Waits for all who build; those who have built are workers then."""
    while building:
        name = next(iter(building))
        worker = building.pop(name)
        with _noting_failure(outcomes, name):
            worker.receive()
            workers[name] = worker


def alone(
    function: Callable[..., Any],
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
    log: Log = print,
) -> Outcome:
    """Calls a function of a module once in a process of its own; its rate is 1 / its seconds."""
    contestant = Contestant(
        function.__name__, _calling, (function, arguments), environment=environment or {}
    )
    return run([contestant], rounds=1, seconds=0, log=log)[contestant.name]


def _calling(function: Callable[..., Any], arguments: tuple) -> Callable[[], Any]:
    return lambda: function(*arguments)


class _Failed(Exception):
    """A contestant's process says why it cannot go on, or ended without a word."""


@contextlib.contextmanager
def _noting_failure(outcomes: dict[str, Outcome], name: str) -> Iterator[None]:
    try:
        yield
    except _Failed as error:
        outcomes[name] = Outcome(error=f"failed, {error}")


@dataclasses.dataclass(frozen=True)
class _Worker:
    connection: Connection
    process: multiprocessing.process.BaseProcess

    def ask(self, message: Any) -> Any:
        with contextlib.suppress(OSError):  # its last words, if any, are still to be received
            self.connection.send(message)
        return self.receive()

    def receive(self) -> Any:
        try:
            answer, error = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise _Failed(f"its process ended with {self.process.exitcode}") from None
        if error:
            raise _Failed(error)
        return answer


@contextlib.contextmanager
def _started(contestant: Contestant) -> Iterator[_Worker]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, contestant), daemon=True)
    # Before the process begins: a variable set inside it may come after the import that reads it.
    with mock.patch.dict(os.environ, {**_ENVIRONMENT, **contestant.environment}):
        process.start()
    there.close()
    try:
        yield _Worker(here, process)
    finally:
        here.close()
        process.terminate()
        process.join()


def _serve(connection: Connection, contestant: Contestant) -> None:
    """Answers each number of seconds with a rate, and None with (value, ready, peak memory)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this one
    value = None
    try:
        work = contestant.factory(*contestant.arguments)
        ready = _mib("VmRSS")
        connection.send((None, ""))
        while (seconds := connection.recv()) is not None:
            start, calls, elapsed = time.perf_counter(), 0, 0.0
            while not calls or elapsed < seconds:
                value = work()
                calls, elapsed = calls + 1, time.perf_counter() - start
            connection.send((calls / elapsed, ""))
        connection.send(((value, ready, _mib("VmHWM")), ""))
    except EOFError:
        pass  # the parent is gone
    except Exception as error:  # whatever a framework raises is a result
        connection.send((None, f"{type(error).__name__}: {error}"))


def _mib(field: str) -> float:
    """Returns a field of /proc/self/status; where there is none, the peak that getrusage gives.

    On Linux getrusage would not do: a process starts with the peak of the one it was started by.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / RUSAGE_UNIT


def absent(contestant: Contestant) -> str:
    """Returns why a contestant cannot take part, or '' where its packages are there."""
    missing = [name for name in contestant.needs if importlib.util.find_spec(name) is None]
    return f"left out, {', '.join(missing)} is not installed" if missing else ""
