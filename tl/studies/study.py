"""Runs a study from its plan to its plots, or says what it would cost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tl import hosts, paths
from tl.errors import Stopped, UserError
from tl.files import Log
from tl.runs.outcome import write_report
from tl.runs.workdir import begin
from tl.studies import cost, summary, work
from tl.studies import folder as study_folder
from tl.studies.plan import Plan


def dry_run(plan: Plan, workdir: str | None, log: Log = print) -> None:
    """Logs the runs of a study and what they cost; writes and downloads nothing.

    Args:
      plan: the study.
      workdir: its folder, if there is one.
      log: takes a line of text.
    """
    estimator = cost.Estimator()
    costs = {run.name: estimator.known_cost(run) for run in plan.runs}
    folder = paths.as_path(workdir or ".")
    finished = study_folder.seconds(folder, plan) if workdir else {}
    for run in plan.runs:
        if run.name not in plan.chosen:
            continue
        said = study_folder.standing(folder, run).status if workdir else "missing"
        if workdir and study_folder.changes(folder, run):
            said += ", and a run of another config is in its place, for --overwrite to replace"
        log(f"{run.name}: {run.kind}, {cost.line(costs[run.name])}, {said}")
    log("\n" + cost.describe(plan, costs, finished))


def run(
    plan: Plan,
    folder: Path,
    *,
    overwrite: bool = False,
    do: Callable[..., list[str]] = work.do,
    log: Log = print,
) -> list[str]:
    """Does the missing runs of a study; writes `study.json`, `study.csv`, plots and the page.

    Args:
      plan: the study.
      folder, overwrite, log: see `tl.studies.work.do`.
      do: that function, or another of the same arguments (`tl.studies.engines.do`).

    Returns:
      Names of the runs that failed.

    Raises:
      UserError: the folder holds runs of another config, or cannot be written.
      Stopped: on SIGTERM or Ctrl-C; the summary of the finished runs has been written.
    """
    begin(folder)
    try:
        try:
            failed = do(plan, folder, overwrite=overwrite, log=log)
        except Stopped:
            if hosts.is_first():
                summary.write(plan, folder)
            raise
        if not hosts.is_first():
            return []  # the first process says which
        study = summary.write(plan, folder)
        written = [folder / summary.STUDY, folder / summary.CSV, *_draw(study, folder)]
    except OSError as error:  # errors of runs are recorded, not raised
        raise UserError(f"--workdir={folder} cannot be written: {error}") from error
    log("\n" + summary.tables(study))
    log("\nwritten: " + ", ".join(map(str, written)))
    write_report(plan.report, folder, log)
    return failed


def _draw(study: dict[str, Any], folder: Path) -> list[Path]:
    from tl.report import study_figures  # matplotlib takes a second to import

    return study_figures.save(study, folder)
