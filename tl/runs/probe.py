"""A probe run: stores features, then fits probes for every number of examples and every seed."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tl import hosts
from tl.data import grouping, sources
from tl.data.sources import Source
from tl.files import Log, append_jsonl
from tl.inference.model import as_probe
from tl.probes import seeds
from tl.report import tables
from tl.results import evidence
from tl.results.run import SCHEMA
from tl.results.warnings import of_parts, tell
from tl.runs import near_duplicates, options, probe_grid
from tl.runs.extract import stored_features
from tl.runs.options import Features
from tl.runs.outcome import (
    describe_data,
    describe_weights,
    left_out,
    usage,
    write_report,
    write_result,
)
from tl.runs.parts import labels_of
from tl.runs.probe_grid import Headline
from tl.runs.workdir import begin
from tl.weights.load import Pretrained, load
from tl.weights.probe_head import name_of_seed
from tl.weights.spec import WeightChoice

PLOT = "accuracy_over_endpoint.png"


def run(config: ConfigDict, workdir: Path, log: Log = print) -> dict[str, Any]:
    """Extracts features and fits probes on them, for every number of examples and every seed.

    Args:
      config: see `configs/common.py`.
      workdir: the run's folder, which gets `metrics.jsonl`, the plot, each seed's
        classifier (`tl.weights.probe_head`), the evidence (`tl.results.evidence`), `result.json`
        and, made from these, `report.html`.
      log: takes a line of text.

    Returns:
      What `result.json` holds: the largest number of examples a class under `test`, averaged over
      the seeds, and every number of examples and endpoint under `study`.

    Raises:
      UserError: weights, data, endpoints or solvers that cannot be had.
    """
    start = time.perf_counter()
    options.check_lists(config)
    solvers, data = options.solvers(config), options.data(config)
    weights = options.weights(config)
    network = load(weights.name, **weights.reading)
    wanted = options.features(config).of(network.backbone)
    opened = sources.open_sources(data)
    stores = stored_features(wanted, network, opened, log)
    extracted = time.perf_counter()

    def record(cell: Mapping[str, Any]) -> None:
        begin(workdir)  # the first one shows that the solvers' fields can be used
        if hosts.is_first():
            append_jsonl(workdir / "metrics.jsonl", cell)
        log(tables.cell_line(cell))

    classes = opened["train"].classes
    divisions = probe_grid.divisions(
        stores,
        examples_per_class=config.data.examples_per_class,
        seeds=config.seeds,
        val_fraction=data.val_fraction,
        folds=data.folds,
        groups=sources.groups(opened["train"]),
    )
    most = list(divisions)[-1]
    first = next(iter(divisions[most].values()))
    warnings = of_parts(labels_of(first.parts), classes, chosen=bool(most), folds=len(first.folds))
    summary, headline = probe_grid.run(
        divisions,
        classes=classes,
        endpoints=network.backbone.named_endpoints(config.endpoints),
        solvers=solvers,
        record=record,
        groups=grouping.names_of(opened["test"]),
    )
    fitted = time.perf_counter()
    counts = {split: len(source) for split, source in opened.items()}

    def image(split: str, row: int) -> np.ndarray:
        source = opened.get(split, opened["train"])  # of which val may be a part
        return source[int(headline.division.parts[split][1][row])]["image"]

    predictions = headline.predictions(classes)
    evidence.write(workdir, predictions, headline.projection(), image)
    near = near_duplicates.compare(stores, divisions[most], predictions, log)
    near.save_pictures(workdir, opened, image)
    warnings = [*sources.warnings(opened), *near.warnings, *warnings]
    _save_heads(headline, wanted, network, weights, opened["train"], workdir)
    if hosts.is_first():
        from tl.report import plots  # Matplotlib takes a second to import: not at the start

        title = f"{network.spec.name} on {opened['train'].name}: probes"
        plots.accuracy_over_endpoint(summary["study"], title, workdir / PLOT)
    result = {
        "schema": SCHEMA,
        "kind": "probe",
        "data": {
            **describe_data(opened, counts | summary.pop("counts")),
            "left_out": left_out(stores),
        },
        "weights": describe_weights(network),
        **summary,
        "near_duplicates": near.result,
        "warnings": [*warnings, *summary["warnings"]],
        "seconds": {
            "extract": extracted - start,
            "fit": fitted - extracted,
            "total": time.perf_counter() - start,
        },
    }
    write_result(workdir, result)
    log("\n" + tables.study_table(result["study"]) + "\n\n" + tables.result_table(result))
    # Of the probes' own only those of the selected endpoint; the result has all.
    tell([*warnings, *seeds.warnings(headline.results, result["selected"]["endpoint"])], log)
    log(f"\nwritten: {workdir / 'result.json'}, {workdir / PLOT}")
    log(usage(workdir))
    write_report(config.report, workdir, log)
    return result


def _save_heads(
    headline: Headline,
    wanted: Features,
    network: Pretrained,
    weights: WeightChoice,
    source: Source,
    workdir: Path,
) -> None:
    """Writes the selected classifier of each seed into the run's folder; only process 0 writes."""
    if not hosts.is_first():
        return
    for place, (seed, result) in enumerate(headline.results.items()):
        chosen = result.selected
        head = as_probe(
            chosen.fit.head,
            setting=chosen.setting,
            endpoint=chosen.endpoint,
            extraction=wanted.extraction,
            image_shape=source.image_shape,
            preprocessing=wanted.overrides.of(network.spec.preprocessing),
            weights=weights,
            sha256=network.sha256,
            classes=source.classes,
            temperature=headline.temperature(result),
            seed=seed,
        )
        head.save(workdir / name_of_seed(place, seed))
