"""The results of a study: its runs, its cells (each setting over all seeds), and its claims."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from tl.files import replacing, write_json
from tl.report.tables import cost_table
from tl.results.formats import with_interval
from tl.results.intervals import seeds_interval
from tl.results.run import SCHEMA
from tl.studies import claims
from tl.studies import folder as study_folder
from tl.studies.plan import Plan, Run

STUDY, CSV = "study.json", "study.csv"


def summarise(plan: Plan, folder: Path) -> dict[str, Any]:
    """Returns the content of `study.json`.

    Args:
      plan: the study.
      folder: the study's folder.
    """
    rows: list[dict[str, Any]] = []
    warnings: list[str] = []
    for run in plan.runs:
        found = study_folder.standing(folder, run)
        rows.append(_row(run, found))
        of_run = (found.result or {}).get("warnings", ())
        warnings += [f"{run.name}: {text}" for text in of_run]
    return {
        "schema": SCHEMA,
        "kind": "study",
        "title": plan.title,
        "axes": {axis: list(levels) for axis, levels in plan.axes.items()},
        "columns": plan.columns,
        "metric": "test_top1",
        "runs": rows,
        "cells": _cells(rows),
        "costs": _costs(rows, plan.columns),
        "claims": [claims.judge(claim, rows, folder) for claim in plan.claims],
        "seconds": sum(row["seconds"] or 0.0 for row in rows),
        "warnings": warnings,
    }


def write(plan: Plan, folder: Path) -> dict[str, Any]:
    """Writes `study.json` and `study.csv` of the runs that are finished; returns the former."""
    study = summarise(plan, folder)
    write_json(folder / STUDY, study)
    with replacing(folder / CSV) as partial:
        partial.write_text(to_csv(study))
    return study


def _row(run: Run, standing: study_folder.Standing) -> dict[str, Any]:
    row = {
        "name": run.name,
        "folder": f"runs/{run.name}",
        "kind": run.kind,
        "levels": dict(run.levels),
        "status": standing.status,
        "error": standing.error and standing.error["error"],
        **dict.fromkeys(
            ("val_top1", "test_top1", "test_top1_ci95", "count", "trained", "seconds", "selected")
        ),
    }
    if found := standing.result:
        row |= {
            "val_top1": found["val"]["top1"],
            "test_top1": found["test"]["top1"],
            "test_top1_ci95": found["test"]["top1_ci95"],
            "count": found["test"]["count"],
            "trained": found.get("parameters", {}).get("trained"),
            "seconds": study_folder.taken(found),
            "selected": found["selected"],
            **{name: found["test"][name] for name in ("groups",) if name in found["test"]},
        }
    return row


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns one cell for each setting: the mean of its runs, which differ by seed.

    Its interval is Student's over the seeds. With one seed, or if all seeds have the same accuracy,
    it is the first run's interval over its test images, or over their groups.
    """
    settings: dict[tuple[tuple[str, str], ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        setting = tuple((a, level) for a, level in row["levels"].items() if a != "seed")
        settings.setdefault(setting, []).append(row)
    cells = []
    for setting, of_setting in settings.items():
        done = [row for row in of_setting if row["status"] == "done"]
        cell = {
            "levels": dict(setting),
            **dict.fromkeys(("mean", "ci95", "interval", "val_mean")),
            "seeds": len(done),
            "failed": sum(row["status"] == "failed" for row in of_setting),
        }
        if done:
            accuracies = [row["test_top1"] for row in done]
            cell["mean"] = sum(accuracies) / len(done)
            cell["val_mean"] = sum(row["val_top1"] for row in done) / len(done)
            groups = done[0].get("groups")
            cell["ci95"] = done[0]["test_top1_ci95"]
            cell["interval"] = f"over {groups} test groups" if groups else "over test images"
            # Equal seeds, as of probes on all images, say nothing about chance.
            if len(set(accuracies)) > 1:
                _, low, high = seeds_interval(np.array(accuracies))
                cell["ci95"] = [max(0.0, low), min(1.0, high)]
                cell["interval"] = f"t over {len(done)} seeds"
        cells.append(cell)
    return cells


def _costs(rows: Sequence[Mapping[str, Any]], columns: str) -> list[dict[str, Any]]:
    """Returns mean seconds and trained parameters of the finished runs at each level of an axis.

    Seconds are of whole runs: the first of several that share features extracts them for all. The
    count is over fine-tuning runs; None for probes, which train nothing of the network.
    """
    levels: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] == "done":
            levels.setdefault(row["levels"].get(columns, ""), []).append(row)
    return [
        {
            "level": level,
            "trained": _mean([row["trained"] for row in done if row["trained"] is not None]),
            "seconds": _mean([row["seconds"] for row in done]),
        }
        for level, done in levels.items()
    ]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def to_csv(study: Mapping[str, Any]) -> str:
    """Returns a study's runs as CSV, one in each row; accuracies are fractions."""
    rows: list[dict[str, Any]] = []
    for run in study["runs"]:
        low, high = run["test_top1_ci95"] or (None, None)
        same = (
            "name", "kind", "status", "val_top1", "test_top1", "count", "trained", "seconds",
            "error",
        )  # fmt: skip
        row = {
            **{name: run[name] for name in same},
            "test_top1_low": low,
            "test_top1_high": high,
            "selected": json.dumps(run["selected"]) if run["selected"] else None,
        }
        # An axis may have the name of a column.
        levels = {
            f"axis {axis}" if axis in row else axis: level for axis, level in run["levels"].items()
        }
        rows.append(levels | row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def tables(study: Mapping[str, Any]) -> str:
    """Returns the cells and the claims of a study, for the console."""
    columns = study["columns"]
    others = [axis for axis in study["axes"] if axis not in (columns, "seed")]
    cells = {_key(cell["levels"], [*others, columns]): cell for cell in study["cells"]}
    rows = dict.fromkeys(_key(cell["levels"], others) for cell in study["cells"])
    texts = [
        [*row, *(_cell(cells.get((*row, level))) for level in study["axes"][columns])]
        for row in rows
    ]
    intervals = "; ".join(dict.fromkeys(c["interval"] for c in study["cells"] if c["interval"]))
    parts = [
        "test top-1 %" + (f", in brackets its 95 % interval ({intervals})" if intervals else ""),
        tabulate(
            texts,
            headers=[*others, *study["axes"][columns]],
            disable_numparse=True,
            colalign=["left"] * len(others) + ["right"] * len(study["axes"][columns]),
        ),
    ]
    if study["costs"]:
        parts.append(cost_table(study))
    if study["claims"]:
        parts.append("\n".join(f"{c['text']}: {c['verdict']}. {c['why']}" for c in study["claims"]))
    return "\n\n".join(parts)


def _key(levels: Mapping[str, str], axes: Sequence[str]) -> tuple[str, ...]:
    return tuple(levels[axis] for axis in axes)


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["mean"] is None:
        return "failed" if cell and cell["failed"] else ""
    text = with_interval(cell["mean"], cell["ci95"])
    return text + (f", {cell['failed']} failed" if cell["failed"] else "")
