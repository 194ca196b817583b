"""Does the runs of a study, by one worker or several; each run is done by one of them.

A worker is a process, or several that are joined (`tl.hosts`): of these the first one chooses the
runs, and all of them do each.
"""

import contextlib
import datetime
import hashlib
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tl import files, hosts
from tl.errors import Stopped, UserError
from tl.files import Log
from tl.results.formats import duration, plural
from tl.runs import finetune, probe, workdir
from tl.storage.lease import Lease, lock
from tl.studies import folder as study_folder
from tl.studies.cost import Estimator, Pace
from tl.studies.plan import Plan, Run

JOBS = {"probe": probe.run, "finetune": finetune.run}
LOCKS = "locks"
_WAIT_SECONDS = 1.0  # between looks at what another process does
# At the end of a run, for the other joined processes: they fail within seconds of each other where
# all do, and process 0 may have pages to write.
_FAILED_WAIT_SECONDS, _PAGE_WAIT_SECONDS = 120.0, 7200.0
_NO_MORE = -1  # in the place of a run's number


def do(plan: Plan, folder: Path, *, overwrite: bool = False, log: Log = print) -> list[str]:
    """Does the missing runs of a study.

    Finished runs are kept, interrupted ones go on, failed ones are tried again. Any number of
    processes may do this in one folder at once. If one is killed, another does its run.

    Args:
      plan: the study.
      folder: of the study. Each run has a folder in it (`tl.studies.folder.place`), with its lines
        of log in log.txt and, if it failed, error.json and error.txt.
      overwrite: whether runs of another config are replaced.
      log: takes a line of text.

    Returns:
      Names of the chosen runs that failed.

    Raises:
      UserError: the folder holds runs of another config.
      Stopped: on SIGTERM or Ctrl-C.
    """
    if not overwrite:
        study_folder.check(folder, *plan.runs)
    todo = [run for run in plan.runs if run.name in plan.chosen]
    with _sigterm_interrupts() as sent:
        try:
            if hosts.is_first():
                _Worker(plan, folder, overwrite, log).work(todo)
                hosts.broadcast(_NO_MORE)
            else:
                _follow(plan, folder)
        except (KeyboardInterrupt, Stopped) as stop:
            if isinstance(stop, KeyboardInterrupt) and hosts.process_share()[1] > 1:
                raise  # the others know nothing of it
            status = (
                stop.status if isinstance(stop, Stopped) else 128 + (sent or [signal.SIGINT])[0]
            )
            raise stopped(todo, folder, status) from None
    return [run.name for run in todo if study_folder.standing(folder, run).status == "failed"]


def stopped(runs: Sequence[Run], folder: Path, status: int) -> Stopped:
    """Returns what to raise where some runs of a study in a folder are stopped, with a status."""
    done = sum(study_folder.standing(folder, run).status == "done" for run in runs)
    return Stopped(
        f"stopped with {done} of {len(runs)} runs finished; the same command with "
        f"--workdir={folder} goes on from there",
        status,
    )


def extraction_lock(run: Run) -> str:
    """Returns the name of the lock that keeps two processes from extracting the same features."""
    return f"extraction-{hashlib.sha256(run.extraction.encode()).hexdigest()[:16]}"


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[list[int]]:
    """Makes SIGTERM do what Ctrl-C does; yields a list of the signals that came."""
    sent: list[int] = []

    def receive(number: int, _frame: Any) -> None:
        sent.append(number)
        raise KeyboardInterrupt

    # That thread alone can take signals; of several processes JAX's service receives them.
    if threading.current_thread() is not threading.main_thread() or hosts.process_share()[1] > 1:
        yield sent
        return
    before = signal.signal(signal.SIGTERM, receive)
    try:
        yield sent
    finally:
        signal.signal(signal.SIGTERM, before)


class _OutOfStep(UserError):
    """A run has failed in this process, and the others wait for it in vain."""


def _follow(plan: Plan, folder: Path) -> None:
    """Does the runs that process 0 has chosen, together with it."""
    while (chosen := hosts.broadcast(_NO_MORE)) != _NO_MORE:
        number, replaced = divmod(chosen, 2)
        try:
            _do_together(plan.runs[number], folder, bool(replaced), lambda _: None)
        except (Stopped, _OutOfStep):
            raise
        except Exception:  # what process 0 has counts, and is written down
            continue


def _do_together(run: Run, folder: Path, replaced: bool, log: Log) -> dict[str, Any]:
    """Does a run with the joined processes, and returns its result when all of them are done.

    Raises:
      _OutOfStep: it has failed here, and the others did not come to its end.
      Exception: of any kind, that the run has raised here.
    """
    path, end = study_folder.place(folder, run), f"end of {run.name}"
    try:
        workdir.start(
            run.config, str(path), run.name, overwrite=replaced, resumable=run.kind == "finetune"
        )
        result = JOBS[run.kind](run.config, path, log)
    except Stopped:
        raise
    except Exception as error:
        if not hosts.meet(end, _FAILED_WAIT_SECONDS):
            raise _OutOfStep(
                f"{run.name} failed here, and not in the other processes: {error}"
            ) from error
        raise
    finally:
        workdir.leave(path)
    hosts.meet(end, _PAGE_WAIT_SECONDS)  # in vain where another one has failed, which then ends all
    return result


class _Worker:
    """What works on a study: a process, or the first one of several that are joined."""

    def __init__(self, plan: Plan, folder: Path, overwrite: bool, log: Log):
        self._plan, self._folder, self._overwrite, self._log = plan, folder, overwrite, log
        self._began = time.time()
        found = {run.name: study_folder.standing(folder, run) for run in plan.runs}
        # Names of finished runs to the seconds they took.
        self._seconds = {n: study_folder.taken(f.result) for n, f in found.items() if f.result}
        self._before = frozenset(self._seconds)
        self._failed = {n: f.error for n, f in found.items() if f.error}
        estimator = Estimator()
        self._costs = {run.name: estimator.known_cost(run) for run in plan.runs}
        (folder / LOCKS).mkdir(parents=True, exist_ok=True)

    def work(self, todo: list[Run]) -> None:
        """Does runs, and waits for those that others are doing."""
        waiting = False
        while todo:
            left = [run for run in todo if not self._attempt(run)]
            if len(left) == len(todo):
                if not waiting:
                    self._log(f"waiting for other processes: {plural(len(left), 'run')} to be done")
                waiting = True
                time.sleep(_WAIT_SECONDS)
            todo = left

    def _attempt(self, run: Run) -> bool:
        """Does a run if it is not over; returns False if another process is at work on it."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self._lock(run.name))
                if not self._overwrite:  # another process may have done a run of another config
                    study_folder.check(self._folder, run)
                if self._is_over(run):
                    if run.name in self._seconds:
                        self._tidy(run)
                    return True
                if run.extraction and not self._is_extracted(run):
                    held.enter_context(self._lock(extraction_lock(run)))
            except Timeout:
                return False
            except NotImplementedError as error:
                raise UserError(
                    f"--workdir={self._folder} is on a file system without locks, which keep two "
                    "processes from doing the same run; give a folder on another one"
                ) from error
            self._do(run)
            return True

    def _lock(self, name: str) -> FileLock | Lease:
        return lock(self._folder / LOCKS / f"{name}.lock")

    def _is_over(self, run: Run) -> bool:
        """Returns whether a run is finished, or has failed since this process began."""
        if run.name in self._seconds:
            return True
        found = study_folder.standing(self._folder, run)
        if found.result:
            self._seconds[run.name] = study_folder.taken(found.result)
        return bool(found.result or (found.error and found.error != self._failed.get(run.name)))

    def _is_extracted(self, run: Run) -> bool:
        """Returns whether a finished run has left all features that this run and others read."""
        return any(
            self._is_over(other)
            and other.name in self._seconds
            # It may have been done before the study grew, when fewer endpoints were shared.
            and study_folder.stored_endpoints(self._folder, other)
            == run.fields["extract.shared_endpoints"]
            for other in self._plan.runs
            if other.extraction == run.extraction
        )

    def _do(self, run: Run) -> None:
        path = study_folder.place(self._folder, run)
        replaced = bool(study_folder.changes(self._folder, run))
        path.mkdir(parents=True, exist_ok=True)
        for name in (study_folder.ERROR, study_folder.TRACEBACK):
            (path / name).unlink(missing_ok=True)
        try:
            with files.appending(path / study_folder.LOG, anew=replaced) as log:
                hosts.broadcast(2 * self._plan.runs.index(run) + replaced)
                result = _do_together(
                    run, self._folder, replaced, lambda line: print(line, file=log)
                )
        except (Stopped, _OutOfStep):
            raise
        except Exception as error:  # of any kind, so that the other runs are still done
            path.mkdir(parents=True, exist_ok=True)  # it may have been removed meanwhile
            (path / study_folder.TRACEBACK).write_text(traceback.format_exc())
            text = str(error) or repr(error)
            failure = {
                "error": text,
                "type": type(error).__name__,
                # It tells this failure from an earlier one of the same kind.
                "time": datetime.datetime.now(datetime.UTC).isoformat(),
            }
            files.write_json(path / study_folder.ERROR, failure)
            self._log(f"{self._counted(run)}: failed: {text.splitlines()[0]}")
            return
        self._tidy(run)
        self._log(
            f"{self._counted(run)}: test top-1 {100 * result['test']['top1']:.1f} % in "
            f"{duration(study_folder.taken(result))}{self._left()}"
        )

    def _tidy(self, run: Run) -> None:
        if not self._plan.keep_weights:
            study_folder.drop_weights(self._folder, run)

    def _counted(self, run: Run) -> str:
        plan = self._plan
        over = sum(map(self._is_over, plan.runs))
        levels = ", ".join(f"{axis}={level}" for axis, level in run.levels.items())
        return f"[{over}/{len(plan.runs)}] {levels}"

    def _left(self) -> str:
        """Returns a clause with the time left, or '' if finished runs do not tell."""
        plan = self._plan
        left = [run for run in plan.runs if run.name in plan.chosen and not self._is_over(run)]
        expected = Pace(plan, self._costs, self._seconds).seconds(left)
        if not left or expected is None:
            return ""
        # Several processes together finish more than one second of runs in a second.
        done = sum(s for name, s in self._seconds.items() if name not in self._before)
        passed = time.time() - self._began
        return f"; about {duration(expected * passed / done if done else expected)} left"
