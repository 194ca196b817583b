"""A run's page: every file it left, as something to look at. One HTML file, whole by itself."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from tl import paths
from tl.errors import UserError
from tl.report import advice_sections, facts, html, sections, study_sections
from tl.report.blocks import Block, Section
from tl.report.index import index
from tl.results.run import KINDS, Run, read

__all__ = ["PAGE", "build", "index"]

PAGE = html.PAGE

T = TypeVar("T")
Blocks = Callable[[Run], list[Block]]

_EVIDENCE: Mapping[str, Blocks] = {
    "Confusion matrix": sections.confusions,
    "Classes": sections.classes,
    "Reliability": sections.reliability,
    "Features": sections.features,
    "Most confident mistakes": partial(sections.gallery, "confident mistake"),
    "Least certain right answers": partial(sections.gallery, "uncertain and right"),
    "Likely mislabelled": partial(sections.gallery, "likely mislabelled"),
}
_WHAT_RAN: Mapping[str, Blocks] = {"What ran": facts.what_ran}
_USE: Mapping[str, Blocks] = {"Use this model": facts.use}
SECTIONS: Mapping[str, Mapping[str, Blocks]] = {  # of each kind of run, in reading order
    "extract": _WHAT_RAN,
    "evaluate": {**_EVIDENCE, **_WHAT_RAN},
    "probe": {
        "Test accuracy by endpoint": sections.endpoints,
        **_EVIDENCE,
        "Near duplicates": sections.near_duplicates,
        **_USE,
        "Selection on val": sections.selection,
        **_WHAT_RAN,
    },
    "finetune": {
        **_EVIDENCE,
        **_USE,
        "Learning curves": sections.learning_curves,
        "Between start and end": sections.between,
        "Augmented images": sections.augmented,
        **_WHAT_RAN,
    },
    "advise": {
        "Verdict": advice_sections.verdict,
        "Accuracy over images": advice_sections.curve,
        "Measured": advice_sections.measured,
        **_WHAT_RAN,
    },
    "study": {
        "Advice": study_sections.claims,
        "Accuracy": study_sections.cells,
        "Plots": study_sections.plots,
        "What ran": facts.study_facts,
        "Runs": study_sections.runs,
    },
}
_HEADLINES = {"study": study_sections.headline, "advise": advice_sections.headline}


def build(workdir: Path) -> Path:
    """Writes `report.html` into a run's or a study's folder, from the files there alone.

    A part whose files are not there is left out, and a line says why.

    Returns:
      The page's path.

    Raises:
      UserError: the folder holds no finished run, or a damaged one.
    """
    run = read(paths.as_path(workdir))
    top = _HEADLINES.get(run.kind, facts.headline)
    parts = [_section(title, blocks, run) for title, blocks in SECTIONS[run.kind].items()]
    parts = [part for part in parts if part.blocks or part.missing]
    return html.write(
        run.path / PAGE,
        "report.html",
        headline=_needed(top, run),
        kind=KINDS[run.kind],
        name=run.name,
        started=run.environment.get("started"),
        sections=parts,
    )


def _section(title: str, blocks: Blocks, run: Run) -> Section:
    try:
        return Section(title, _needed(blocks, run))
    except UserError as error:
        return Section(title, [], missing=str(error))


def _needed(part: Callable[[Run], T], run: Run) -> T:
    """Returns what a part of the page makes of a run; a field that it lacks is a UserError."""
    try:
        return part(run)
    except KeyError as error:
        raise UserError(f"the files of {run.path} lack {error}; an older run may") from error
