"""The folder of a study: where its runs are, how each stands, and if it is the run planned."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl import files
from tl.errors import UserError
from tl.fields import MAY_CHANGE, config_fields, differences
from tl.runs import finetune, workdir
from tl.studies.plan import Plan, Run

ERROR, TRACEBACK, LOG = "error.json", "error.txt", "log.txt"
# No result depends on these fields, and a study that has grown shares more endpoints.
_IMMATERIAL = (
    *MAY_CHANGE,
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
      status: `done`, `failed` or `missing`. A run is missing also while it is being done, and if
        its folder holds a run of another config.
      result: `result.json` of a run that is done.
      error: `error.json` of a run that failed.
    """

    status: str
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


def place(folder: Path, run: Run) -> Path:
    """Returns a run's folder within its study's."""
    return folder / "runs" / run.name


def standing(folder: Path, run: Run) -> Standing:
    """Returns how a run stands. Another process may be at work on it meanwhile."""
    path = place(folder, run)
    # Compared before the result is read, for a run that replaces another removes the result first
    # and writes its config then.
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
    """Returns name of each finished run to the seconds it took."""
    results = {run.name: standing(folder, run).result for run in plan.runs}
    return {name: taken(result) for name, result in results.items() if result}


def check(folder: Path, *runs: Run) -> None:
    """Raises UserError if a run's folder holds a finished or interrupted run of another config."""
    for run in runs:
        if lines := changes(folder, run):
            raise UserError(
                f"{place(folder, run)} holds a run of another config; give that one, another "
                "--workdir, or --overwrite to replace such runs. They differ in\n  "
                + "\n  ".join(lines)
            )


def changes(folder: Path, run: Run) -> list[str]:
    """Returns the fields in which the run in a folder differs from the run planned for it.

    The kind of run counts as a field, `run`. If the run there is interrupted, every field counts
    but those in `tl.fields.MAY_CHANGE`, for it can only go on with the config that it began with.
    If it is finished, only fields that its result may depend on count. If there is neither, nothing
    differs.
    """
    path = place(folder, run)
    there = _config(path)
    finished = (path / workdir.RESULT).exists()
    if not finished and not (path / workdir.CHECKPOINTS).is_dir():
        return []
    if there is None:
        return ["config.json, which is missing or damaged"]
    kind = "finetune"  # only fine-tuning leaves checkpoints
    if finished:
        result = files.read_json(path / workdir.RESULT)
        if result is None:
            return ["result.json, which is damaged"]
        kind = result.get("kind")
    asked, there = config_fields(files.as_json(run.fields)), config_fields(there)
    for name in _IMMATERIAL if finished else MAY_CHANGE:
        asked.pop(name, None)
        there.pop(name, None)
    return differences({"run": run.kind, **asked}, {"run": kind, **there})


def stored_endpoints(folder: Path, run: Run) -> tuple[str, ...]:
    """Returns the endpoints that a finished run left stored for all that share them."""
    config = _config(place(folder, run)) or {}
    return tuple(config.get("extract", {}).get("shared_endpoints", ()))


def drop_weights(folder: Path, run: Run) -> None:
    """Removes the weights that a finished fine-tuning run leaves, tens of megabytes."""
    path = place(folder, run)
    workdir.remove_checkpoints(path)
    (path / finetune.WEIGHTS).unlink(missing_ok=True)


def _config(path: Path) -> dict[str, Any] | None:
    return files.read_json(path / workdir.CONFIG)
