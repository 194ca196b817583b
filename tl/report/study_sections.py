"""What a study shows: its claims, its table of cells, its plots and its runs."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from matplotlib.figure import Figure

from tl.report import fonts, study_figures, tables
from tl.report.blocks import (
    Block,
    Cell,
    Facts,
    Table,
    Text,
    interval,
    paragraphs,
    percent,
    picture,
    seconds,
)
from tl.report.facts import Headline
from tl.results import formats
from tl.results.run import Run


def headline(run: Run) -> Headline:
    """Returns how much of the advice holds, or how many runs there are."""
    result = run.result
    runs, claims = result["runs"], result["claims"]
    done = sum(r["status"] == "done" for r in runs)
    verdicts = Counter(c["verdict"] for c in claims)
    held = verdicts.pop("holds", 0)
    number = f"{held} of {len(claims)}" if claims else f"{done} of {len(runs)}"
    unit = "claims hold" if claims else "runs done"
    plural = {"does not hold": "do not hold"}
    notes = [f"{n} {plural.get(v, v) if n > 1 else v}" for v, n in verdicts.items()]
    tiles = {
        **({"runs done": f"{done} of {len(runs)}"} if claims else {}),
        "axes": ", ".join(f"{name} ({len(levels)})" for name, levels in result["axes"].items()),
        "time of all runs": formats.seconds(result["seconds"]),
    }
    failed = [f"{r['name']}: {r['error']}" for r in runs if r["status"] == "failed"]
    return Headline(result["title"], number, unit, notes, tiles, [*result["warnings"], *failed])


def claims(run: Run) -> list[Block]:
    """Returns each piece of advice with its verdict."""
    rows = [
        [
            c["text"],
            ", ".join(c["where"].values()),
            ", ".join(c["advised"].values()),
            Cell(study_figures.verdict(c), c["verdict"], strong=True),
            c["best"] or formats.NONE,
            formats.points(c["difference"], c["ci95"]),
            formats.NONE if c["p_value"] is None else f"{c['p_value']:.2g}",
        ]
        for c in run.result["claims"]
    ]
    if not rows:
        return []
    columns = ["advice", "where", "advised", "verdict", "best", "lead (points)", "p"]
    caption = (
        f"Lead: {_metric(run.result)} of the advised level less that of the best other one, with "
        "its paired 95 % interval. It is over seeds and test images, or over images alone where "
        "it says so: with few seeds it leaves out the luck of training"
    )
    why = {f"{', '.join(c['where'].values())}: {c['text']}": c["why"] for c in run.result["claims"]}
    return [Table(caption, columns, rows, sortable=False), Facts("Why", why)]


_COSTS = (
    "What a run costs, mean over runs. Seconds are of the whole run: the first of several that "
    "share features extracts them for all. A probe trains nothing of the network"
)


def cells(run: Run) -> list[Block]:
    """Returns mean accuracy with its interval, rows of levels by the levels of one axis."""
    study = run.result
    across = study["columns"]
    rows: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    axes = [axis for axis in study["axes"] if axis not in (across, "seed")]
    for cell in study["cells"]:
        key = tuple(cell["levels"][axis] for axis in axes)
        rows.setdefault(key, {})[cell["levels"].get(across, "")] = cell
    levels = study["axes"].get(across, [""])
    compared = across != "examples"  # that more examples are better is no finding
    table = Table(
        f"{_metric(study)} % (95 % interval), {across} across",
        [*axes, *(level or _metric(study) for level in levels)],
        [
            [*key, *_row([found.get(level) for level in levels], compared)]
            for key, found in rows.items()
        ],
    )
    about = "; ".join(sorted({c["interval"] for c in study["cells"] if c["interval"]}))
    found: list[Block] = [table, *([Text(f"Intervals: {about}.")] if about else [])]
    if study.get("costs"):  # older studies have none
        columns, texts = tables.cost_rows(study)
        costs: list[list[Cell | str]] = [
            [level, Cell(trained, cost["trained"]), Cell(seconds, cost["seconds"])]
            for cost, (level, trained, seconds) in zip(study["costs"], texts)
        ]
        found.append(Table(_COSTS, columns, costs))
    return found


def plots(run: Run) -> list[Block]:
    """Returns the study's figures."""
    study = run.result
    means = [cell for cell in study["cells"] if cell["mean"] is not None]
    if not means:
        return [Text("No run is finished yet.")]
    low, high = (f(means, key=lambda cell: cell["mean"]) for f in (min, max))
    cells = formats.plural(len(means), "cell")
    judged = "; ".join(
        f"{c['text']}: {formats.points(c['difference'], c['ci95'])}" for c in study["claims"]
    )
    alts = {
        "accuracy": f"{_metric(study)} of {cells}, from {_named(low)} to {_named(high)}.",
        "claims": f"Leads of what was advised, in percentage points, with intervals. {judged}.",
    }
    pictures = [
        picture(partial(_figure, study, name), alts.get(name, name))
        for name in study_figures.study(study)
    ]
    levels = (level for levels in study["axes"].values() for level in levels)
    return [*paragraphs(fonts.about(levels)), *pictures]


def _figure(study: Mapping[str, Any], name: str) -> Figure:
    return study_figures.study(study)[name]


def runs(run: Run) -> list[Block]:
    """Returns every run with its result, and where its folder is."""
    axes = list(run.result["axes"])
    rows = [
        [
            Cell(r["name"], r["name"], _page(run, r)),
            *(str(r["levels"].get(axis, formats.NONE)) for axis in axes),
            r["status"],
            percent(r["val_top1"]),
            percent(r["test_top1"]),
            interval(r["test_top1_ci95"]),
            formats.setting(r["selected"]) if r["selected"] else formats.NONE,
            seconds(r["seconds"]),
        ]
        for r in run.result["runs"]
    ]
    columns = [
        "run", *axes, "status", "val top-1", "test top-1", "95 % interval", "selected", "time",
    ]  # fmt: skip
    return [Table("Every run", columns, rows)]


def _page(run: Run, of_study: Mapping[str, Any]) -> str:
    """Returns the address of a run's own page, '' where it has none."""
    page = f"{of_study['folder']}/report.html"
    return quote(page) if (run.path / page).exists() else ""


def _row(cells: Sequence[Mapping[str, Any] | None], compared: bool) -> list[Cell]:
    """Returns the cells of a row; where they are compared, its highest mean stands out."""
    row = [_cell(cell) for cell in cells]
    means = [cell.value for cell in row if cell.value is not None]
    best = max(means) if compared and len(means) > 1 else None
    return [dataclasses.replace(c, strong=c.value is not None and c.value == best) for c in row]


def _cell(cell: Mapping[str, Any] | None) -> Cell:
    if cell is None or cell["mean"] is None:
        return Cell("failed" if cell and cell["failed"] else formats.NONE)
    text = f"{100 * cell['mean']:.1f}"
    if cell["ci95"]:
        low, high = (100 * end for end in cell["ci95"])
        text += f" ({low:.1f}{formats.TO}{high:.1f})"
    if cell["failed"]:
        text += f", {cell['failed']} failed"
    return Cell(text, cell["mean"])


def _levels(levels: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis} {level}" for axis, level in levels.items())


def _named(cell: Mapping[str, Any]) -> str:
    return f"{formats.percent(cell['mean'])} ({_levels(cell['levels'])})"


def _metric(study: Mapping[str, Any]) -> str:
    return study["metric"].replace("_", " ").replace("top1", "top-1")
