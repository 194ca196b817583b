"""Does the runs of a study on the machines of a cluster: each is a task of Ray, or a job of Slurm.

The engine decides where and when. What a task does is `tl.studies.work.do` of one run, so locks,
resuming and what is said of failures are those of a study on one machine. All machines share the
study's folder, and the caches of features and weights.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl import paths
from tl.errors import Stopped, UserError
from tl.files import Log
from tl.studies import folder as study_folder
from tl.studies import work
from tl.studies.plan import Plan, Run

# Of this process, which a worker on another machine needs too.
_PASSED_ON = ("TL_", "JAX_", "XLA_", "HF_")
_POLL_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Resources:
    """What one run takes of a machine.

    Attributes:
      gpus: whole or, with Ray, a part of one that several runs share.
      cpus: cores.
      memory_gb: of the host; 0 for what the engine gives.
      hours: after which Slurm stops a job; it then goes on in a new one.
      retries: times that a run is started again after its machine or its process is gone.
      slurm: further options of sbatch, such as {'partition': 'gpu'}.
    """

    gpus: float = 0.0
    cpus: int = 1
    memory_gb: float = 0.0
    hours: float = 24.0
    retries: int = 3
    slurm: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Task:
    """One run, as a worker does it; calling it returns the lines of its log.

    A run that fails has its error in its folder (`tl.studies.work.do`); a task fails where its
    worker is lost or stopped.
    """

    plan: Plan
    name: str
    folder: Path
    overwrite: bool

    def __call__(self, *_after: Any) -> list[str]:
        """Does the run, after what it waits for."""
        from tl import devices  # JAX is the worker's
        from tl.runs import compile_cache
        from tl.weights.fetch import cache_root

        devices.divide_cpu()
        compile_cache.enable(cache_root())
        lines: list[str] = []
        alone = dataclasses.replace(self.plan, chosen=frozenset({self.name}))
        work.do(alone, self.folder, overwrite=self.overwrite, log=lines.append)
        return lines

    def checkpoint(self, *_: Any) -> Any:
        """Returns what submitit starts in the place of a job that Slurm stops."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def do(
    engine: str,
    resources: Resources,
    plan: Plan,
    folder: Path,
    *,
    overwrite: bool = False,
    log: Log = print,
) -> list[str]:
    """Does the missing runs of a study, each in a worker of a cluster.

    Of the runs that read the same features the first one extracts them, and the others wait for it.

    Args:
      engine: a key of ENGINES.
      resources: of each run.
      plan, folder, overwrite, log: see `tl.studies.work.do`.

    Returns:
      Names of the chosen runs that failed, or whose workers were lost too often.

    Raises:
      UserError: the engine is not installed; the folder holds runs of another config.
      Stopped: on Ctrl-C; the engine is told to stop what it does.
    """
    if not overwrite:
        study_folder.check(folder, *plan.runs)
    folder = folder.resolve()

    def left() -> list[Run]:
        return [run for run in chosen if study_folder.standing(folder, run).status != "done"]

    chosen = [run for run in plan.runs if run.name in plan.chosen]
    missing = left()
    tasks = {run.name: Task(plan, run.name, folder, overwrite) for run in missing}
    try:
        for lines in ENGINES[engine](tasks, waits(missing), resources, folder):
            for line in lines:
                log(line)
    except KeyboardInterrupt:
        raise work.stopped(chosen, folder, 130) from None
    return [run.name for run in left()]


def waits(runs: Sequence[Run]) -> dict[str, str]:
    """Returns the runs that wait for another one, each with the name of that one.

    The first run that reads some features extracts them for the others.
    """
    first: dict[str, str] = {}
    waiting = {}
    for run in runs:
        leader = first.setdefault(run.extraction, run.name) if run.extraction else run.name
        if leader != run.name:
            waiting[run.name] = leader
    return waiting


def _on_ray(
    tasks: Mapping[str, Task], after: Mapping[str, str], resources: Resources, _folder: Path
) -> Iterator[list[str]]:
    """Yields the log of each task, or why there is none, as they end."""
    try:
        import ray
    except ImportError:
        raise UserError("--engine=ray needs Ray: pip install '.[ray]'") from None
    passed_on = {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)}
    ray.init(log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": passed_on})
    remote = ray.remote(
        num_gpus=resources.gpus,
        num_cpus=resources.cpus,
        memory=int(resources.memory_gb * 2**30) or None,
        max_retries=resources.retries,
        retry_exceptions=[Stopped],
        max_calls=1,  # a process that ends gives back the memory of its GPU
    )(_call)
    sent: dict[Any, str] = {}
    of_name: dict[str, Any] = {}
    try:
        for name, task in tasks.items():
            # An argument that is another task's result is what Ray waits for.
            of_name[name] = remote.remote(task, *([of_name[after[name]]] if name in after else []))
            sent[of_name[name]] = name
        while sent:
            (ended,), _ = ray.wait(list(sent), num_returns=1)
            name = sent.pop(ended)
            try:
                yield ray.get(ended)
            except ray.exceptions.RayError as error:
                yield [_lost(name, error)]
    finally:
        for reference in sent:
            ray.cancel(reference)
        ray.shutdown()


def _call(task: Task, *after: Any) -> list[str]:
    return task(*after)


def _on_submitit(
    tasks: Mapping[str, Task], after: Mapping[str, str], resources: Resources, folder: Path
) -> Iterator[list[str]]:
    """As `_on_ray`, by jobs of Slurm; where there is no Slurm, by processes of this machine."""
    try:
        import submitit
    except ImportError:
        raise UserError("--engine=submitit needs submitit: pip install '.[slurm]'") from None
    if paths.is_remote(folder):  # submitit keeps the jobs' files in it
        raise UserError(
            f"--engine=submitit needs a --workdir on a disk that all nodes see, not {folder}"
        )
    executor = submitit.AutoExecutor(folder / "jobs", slurm_max_num_timeout=resources.retries)
    jobs: dict[str, Any] = {}
    try:
        for name, task in tasks.items():
            options = dict(resources.slurm)
            if name in after:
                options["dependency"] = f"afterany:{jobs[after[name]].job_id}"
            executor.update_parameters(
                name=name,
                timeout_min=round(60 * resources.hours),
                cpus_per_task=resources.cpus,
                slurm_additional_parameters=options,
                **({"gpus_per_node": round(resources.gpus)} if resources.gpus else {}),
                **({"mem_gb": resources.memory_gb} if resources.memory_gb else {}),
            )
            jobs[name] = executor.submit(task)
        names = {job.job_id: name for name, job in jobs.items()}
        for job in submitit.helpers.as_completed(list(jobs.values()), poll_frequency=_POLL_SECONDS):
            error = job.exception()
            yield job.result() if error is None else [_lost(names[job.job_id], error)]
    except BaseException:
        for job in jobs.values():
            job.cancel()
        raise


def _lost(name: str, error: Exception) -> str:
    return f"{name}: its worker was lost: {str(error).strip().splitlines()[-1]}"


ENGINES: dict[
    str,
    Callable[[Mapping[str, Task], Mapping[str, str], Resources, Path], Iterator[list[str]]],
] = {"ray": _on_ray, "submitit": _on_submitit}
