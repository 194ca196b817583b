"""Reads the folder of a finished run or study."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl.errors import UserError
from tl.results.arrays import damaged
from tl.results.predictions import Predictions

SCHEMA = 1  # of result.json, study.json and comparisons
RESULTS = ("result.json", "study.json")
KINDS = {
    "extract": "Features",
    "probe": "Probe",
    "finetune": "Fine-tuning",
    "evaluate": "Evaluation",
    "advise": "Advice",
    "study": "Study",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """The files of a finished run or study.

    Attributes:
      path: its folder.
      kind: one of KINDS.
      result: `result.json`, or a study's `study.json`.
      config: `config.json`; empty if there is no such file.
      environment: `environment.json`; empty if there is no such file.
    """

    path: Path
    kind: str
    result: Mapping[str, Any]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @functools.cached_property
    def predictions(self) -> Predictions:
        """The run's predictions.

        Raises:
          UserError: the run left none.
        """
        return Predictions.load(self.path)


def read(path: Path) -> Run:
    """Returns the run or study in a folder.

    Raises:
      UserError: there is no such folder, it holds no finished run, or a file is damaged.
    """
    if not path.is_dir():
        raise UserError(f"no folder is called {path}; give one that a run wrote to, its --workdir")
    file = next((path / name for name in RESULTS if (path / name).exists()), None)
    if file is None:
        there = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise UserError(
            f"{path} is no finished run: expected {' or '.join(RESULTS)}, which a run writes last, "
            f"found {there}. Give the folder that a run wrote to, its --workdir; for a folder of "
            f"runs, --index={path}"
        )
    result = _json(file)
    kind = result.get("kind") or _kind_without_name(result)
    if kind not in KINDS:
        raise UserError(f"{file} is of the kind {kind!r}; expected one of {', '.join(KINDS)}")
    others = (path / name for name in ("config.json", "environment.json"))
    config, environment = (_json(other) if other.exists() else {} for other in others)
    return Run(path, kind, result, config, environment)


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
        if not isinstance(content, dict):
            raise ValueError(f"expected names with values, got {str(content)[:60]}")
    except (OSError, ValueError) as error:
        raise damaged(file, error) from error
    return content


def _kind_without_name(result: Mapping[str, Any]) -> str | None:
    """Returns the kind of a run whose result does not name it, as the oldest do not."""
    signs = {"features": "extract", "published": "evaluate", "curve": "finetune", "grid": "probe"}
    return next((kind for key, kind in signs.items() if key in result), None)
