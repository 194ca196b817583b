"""The folder of a study: where its runs are, how each stands, and whether it is the one planned."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl import finetune, workdir
from tl.ablations.plan import Plan, Run
from tl.errors import UserError
from tl.fingerprint import differences

RESULT, ERROR, TRACEBACK, LOG = "result.json", "error.json", "error.txt", "log.txt"
# No result depends on them, and a study that has grown shares more endpoints.
_IMMATERIAL = ("endpoints", "feature_dir", "threads", "verify_rows")  # of `extract`


def place(folder: Path, run: Run) -> Path:
    """Returns a run's folder within its study's."""
    return folder / "runs" / run.name


def status(folder: Path, run: Run) -> str:
    """Returns `done`, `failed` or `missing`, which a run that is being done still is."""
    path = place(folder, run)
    if (path / RESULT).exists():
        return "done"
    return "failed" if (path / ERROR).exists() else "missing"


def result(folder: Path, run: Run) -> dict[str, Any]:
    """Returns what a finished run's `result.json` holds."""
    return json.loads((place(folder, run) / RESULT).read_text())


def taken(found: Mapping[str, Any]) -> float:
    """Returns the seconds a run took, by its `result.json`."""
    of_run = found["seconds"]
    # Of a run that was interrupted the total is that of its last process only.
    return max(of_run["total"], of_run.get("train", 0.0))


def seconds(folder: Path, plan: Plan) -> dict[str, float]:
    """Returns what each finished run took, by its name."""
    return {
        run.name: taken(result(folder, run)) for run in plan.runs if status(folder, run) == "done"
    }


def check(folder: Path, run: Run) -> None:
    """Raises UserError where a finished or interrupted run of another config is in the way."""
    if lines := changes(folder, run):
        raise UserError(
            f"{place(folder, run)} holds a run of another config; give that one, another "
            "--workdir, or --overwrite to replace such runs. They differ in\n  "
            + "\n  ".join(lines)
        )


def changes(folder: Path, run: Run) -> list[str]:
    """Returns what tells a finished or interrupted run from the one that its folder is for."""
    path = place(folder, run)
    if status(folder, run) != "done" and not (path / workdir.CHECKPOINTS).is_dir():
        return []
    try:
        there = json.loads((path / "config.json").read_text())
    except (OSError, ValueError) as error:
        return [f"config.json, which cannot be read: {error}"]
    # As JSON gives them back: tuples are lists there.
    asked = json.loads(json.dumps(run.config.to_dict(), default=str))
    for config in (asked, there):
        for name in _IMMATERIAL:
            config.get("extract", {}).pop(name, None)
    return differences(asked, there)


def drop_weights(folder: Path, run: Run) -> None:
    """Removes what a finished fine-tuning run leaves of its network, tens of megabytes."""
    path = place(folder, run)
    shutil.rmtree(path / workdir.CHECKPOINTS, ignore_errors=True)
    (path / finetune.WEIGHTS).unlink(missing_ok=True)
