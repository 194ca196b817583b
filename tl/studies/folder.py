"""The folder of a study: where its runs are, how each stands, and whether it is the one planned."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl import files
from tl.errors import UserError
from tl.fields import config_fields, differences
from tl.runs import finetune, workdir
from tl.studies.plan import Plan, Run

ERROR, TRACEBACK, LOG = "error.json", "error.txt", "log.txt"
# No result depends on them, and a study that has grown shares more endpoints.
_IMMATERIAL = (
    "data.download",
    "extract.endpoints",
    "extract.feature_dir",
    "extract.shared_endpoints",
    "extract.threads",
    "extract.verify_rows",
)


@dataclasses.dataclass(frozen=True)
class Standing:
    """How a run stands.

    Attributes:
      status: `done`, `failed` or `missing`, which a run that is being done still is, and one whose
        folder holds a run of another config.
      result: what `result.json` holds of a run that is done.
      error: what `error.json` holds of one that failed.
    """

    status: str
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


def place(folder: Path, run: Run) -> Path:
    """Returns a run's folder within its study's."""
    return folder / "runs" / run.name


def standing(folder: Path, run: Run) -> Standing:
    """Returns how a run stands, while other processes may be at work on it."""
    path = place(folder, run)
    # First: a run of another config loses its result before its folder gets the new config.
    differ = changes(folder, run)
    if not differ and (result := files.read_json(path / workdir.RESULT)):
        return Standing("done", result=result)
    if error := files.read_json(path / ERROR):
        return Standing("failed", error=error)
    return Standing("missing")


def taken(result: Mapping[str, Any]) -> float:
    """Returns the seconds a run took, by its `result.json`."""
    return result["seconds"]["total"]


def seconds(folder: Path, plan: Plan) -> dict[str, float]:
    """Returns what each finished run took, by its name."""
    results = {run.name: standing(folder, run).result for run in plan.runs}
    return {name: taken(result) for name, result in results.items() if result}


def check(folder: Path, *runs: Run) -> None:
    """Raises UserError where a finished or interrupted run of another config is in the way."""
    for run in runs:
        if lines := changes(folder, run):
            raise UserError(
                f"{place(folder, run)} holds a run of another config; give that one, another "
                "--workdir, or --overwrite to replace such runs. They differ in\n  "
                + "\n  ".join(lines)
            )


def changes(folder: Path, run: Run) -> list[str]:
    """Returns what tells a finished or interrupted run from the one that its folder is for.

    That is also its kind, as `run`. Of an interrupted run, which goes on only by the very config
    that it began with, every field counts; of a finished one those that its result may depend on.
    """
    path = place(folder, run)
    there = _config(path)
    finished = (path / workdir.RESULT).exists()
    if not finished and not (path / workdir.CHECKPOINTS).is_dir():
        return []
    if there is None:
        return ["config.json, which is missing or damaged"]
    kind = "finetune"  # which alone leaves checkpoints
    if finished:
        result = files.read_json(path / workdir.RESULT)
        if result is None:
            return ["result.json, which is damaged"]
        kind = result.get("kind")
    asked, there = config_fields(files.as_json(run.fields)), config_fields(there)
    for name in _IMMATERIAL if finished else ():
        asked.pop(name, None)
        there.pop(name, None)
    return differences({"run": run.kind, **asked}, {"run": kind, **there})


def stored_endpoints(folder: Path, run: Run) -> tuple[str, ...]:
    """Returns the endpoints that a finished run left stored for all that share them."""
    config = _config(place(folder, run)) or {}
    return tuple(config.get("extract", {}).get("shared_endpoints", ()))


def drop_weights(folder: Path, run: Run) -> None:
    """Removes what a finished fine-tuning run leaves of its network, tens of megabytes."""
    path = place(folder, run)
    shutil.rmtree(path / workdir.CHECKPOINTS, ignore_errors=True)
    (path / finetune.WEIGHTS).unlink(missing_ok=True)


def _config(path: Path) -> dict[str, Any] | None:
    return files.read_json(path / workdir.CONFIG)
