"""The index of all runs below a folder: a table, accuracy over cost, and links to their pages."""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tl.errors import UserError
from tl.report import figures, fonts, html
from tl.report.blocks import (
    Block,
    Cell,
    Details,
    Section,
    Table,
    interval,
    paragraphs,
    percent,
    picture,
    seconds,
)
from tl.results import formats
from tl.results.run import KINDS, RESULTS, Run, read

COLUMNS = (
    "run", "kind", "data", "weights", "test top-1", "95 % interval", "time", "started (UTC)",
    "selected",
)  # fmt: skip


def index(root: Path) -> Path:
    """Writes `index.html` into a folder, over all finished runs and studies found below it.

    Returns:
      The page's path.

    Raises:
      UserError: no run is below the folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"no folder is called {root}; --index takes one that holds runs")
    rows, damaged = {}, {}
    for folder in _folders(root):
        try:
            rows[folder] = _row(read(folder))
        except UserError as error:
            damaged[folder] = str(error)
        except (KeyError, TypeError) as error:
            damaged[folder] = f"its result lacks {error}"
    if not rows and not damaged:
        raise UserError(
            f"no {' or '.join(RESULTS)} is below {root}; --index takes a folder that holds "
            "finished runs, such as runs/"
        )
    return html.write(
        root / html.INDEX,
        "index.html",
        title=f"Runs in {root.resolve().name}",
        summary=_summary(rows),
        sections=list(_sections(root, rows, damaged)),
    )


def _folders(root: Path) -> Iterator[Path]:
    """Yields the folders of finished runs and studies, sorted."""
    for folder, below, files in os.walk(root):
        below.sort()
        if RESULTS[0] in files:
            below.clear()  # checkpoints and the like: no run is inside a run
        if any(name in files for name in RESULTS):
            yield Path(folder)


def _row(run: Run) -> dict[str, Any]:
    """Returns what the index says of a run."""
    result, study = run.result, run.kind == "study"
    test = {} if study else result.get("test") or {}
    took = result["seconds"]
    row = {
        "kind": run.kind,
        "data": "",
        "weights": "",
        "selected": formats.setting(result.get("selected") or {}) or result.get("headline", ""),
        "top1": test.get("top1"),
        "ci95": test.get("top1_ci95"),
        "seconds": took if study else took["total"],
        "started": run.environment.get("started"),
        "page": html.PAGE if (run.path / html.PAGE).exists() else "",
    }
    if study:
        held = sum(claim["verdict"] == "holds" for claim in result["claims"])
        claims = f", {held} of {len(result['claims'])} claims hold" if result["claims"] else ""
        row["selected"] = f"{formats.plural(len(result['runs']), 'run')}{claims}"
        row["data"] = result["title"]
    else:
        row |= {"data": result["data"]["name"], "weights": result["weights"]["name"]}
    return row


def _sections(
    root: Path, rows: Mapping[Path, Mapping[str, Any]], damaged: Mapping[Path, str]
) -> Iterator[Section]:
    studies = [folder for folder, row in rows.items() if row["kind"] == "study"]
    of_study = {study: [f for f in rows if f != study and study in f.parents] for study in studies}
    grouped = {folder for folders in of_study.values() for folder in folders}
    alone = [folder for folder in rows if folder not in grouped]
    tables: list[Block] = [_table(root, rows, alone, "Runs and studies")] if alone else []
    for study, folders in of_study.items():
        if folders:
            count = formats.plural(len(folders), "run")
            title = f"{count} of the study {_name(root, study)}"
            tables.append(Details(title, [_table(root, rows, folders, title)]))
    yield Section("Runs", tables)
    tested = [
        {**row, "name": _name(root, folder), "kind": KINDS[row["kind"]]}
        for folder, row in rows.items()
        if row["top1"] is not None and row["seconds"]
    ]
    if tested:
        best = max(tested, key=lambda row: row["top1"])
        alt = (
            f"Test top-1 over seconds of {formats.plural(len(tested), 'run')}. The highest is "
            f"{best['name']}: {formats.percent(best['top1'])} in "
            f"{formats.seconds(best['seconds'])}."
        )
        about = (
            "Test accuracies of runs on different data, or on other numbers of examples, are not "
            "comparable."
        )
        yield Section(
            "Accuracy over cost",
            [
                *paragraphs(about, fonts.about(row["name"] for row in tested)),
                picture(partial(figures.accuracy_over_cost, tested), alt),
            ],
        )
    if damaged:
        lines = [[_name(root, folder), reason] for folder, reason in damaged.items()]
        yield Section("Damaged", [Table("Folders that cannot be read", ["folder", "why"], lines)])


def _table(
    root: Path, rows: Mapping[Path, Mapping[str, Any]], folders: list[Path], caption: str
) -> Table:
    return Table(caption, COLUMNS, [_cells(root, folder, rows[folder]) for folder in folders])


def _cells(root: Path, folder: Path, row: Mapping[str, Any]) -> list[Cell | str]:
    name = _name(root, folder)
    page = folder.relative_to(root) / row["page"]
    return [
        Cell(name, name, quote(page.as_posix()) if row["page"] else ""),
        KINDS[row["kind"]],
        row["data"],
        row["weights"],
        percent(row["top1"]),
        interval(row["ci95"]),
        seconds(row["seconds"]),
        Cell(formats.date(row["started"]), row["started"]),
        row["selected"] or formats.NONE,
    ]


def _name(root: Path, folder: Path) -> str:
    relative = folder.relative_to(root).as_posix()
    return root.resolve().name if relative == "." else relative


def _summary(rows: Mapping[Path, Mapping[str, Any]]) -> str:
    total = sum(row["seconds"] for row in rows.values() if row["kind"] != "study")
    kinds = [KINDS[row["kind"]].lower() for row in rows.values()]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return f"{counts}; {formats.seconds(total)} of computing"
