"""The runs a user starts: extract, probe, evaluate. Each takes a config and writes to a folder."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tl import devices, evidence, options, study
from tl.data import imagenet, sources, transforms
from tl.endpoints import PIXELS, output_shapes
from tl.errors import UserError
from tl.features import extract as extract_features
from tl.probes.held_out import score_logits
from tl.report import plots, tables
from tl.store import CORRUPT, FeatureStore
from tl.weights.load import Pretrained, load
from tl.workdir import append_jsonl, begin, write_json

SCHEMA = 1
PLOT = "accuracy_over_endpoint.png"

Log = Callable[[str], Any]


def extract(config: ConfigDict, workdir: Path, log: Log = print) -> dict[str, FeatureStore]:
    """Stores the features of every split; `result.json` says where.

    Args:
      config: see `configs/common.py`.
      workdir: the run's folder.
      log: takes a line of text.

    Returns:
      `train`, `test` and, where it is a split of its own, `val` to a complete store.

    Raises:
      UserError: weights, data or endpoints that cannot be had.
    """
    start = time.perf_counter()
    network = _network(config)
    opened = sources.open_sources(config.data)
    stores = _extract(config, network, opened, log)
    begin(workdir)
    write_json(
        workdir / "result.json",
        {
            "schema": SCHEMA,
            "kind": "extract",
            "data": _data(opened, stores),
            "weights": _weights(network),
            "features": {
                split: {"path": str(store.path), "count": store.num_rows, "widths": store.widths}
                for split, store in stores.items()
            },
            "seconds": {"total": time.perf_counter() - start},
        },
    )
    log(f"written: {workdir / 'result.json'}")
    write_report(config, workdir, log)
    return stores


def probe(config: ConfigDict, workdir: Path, log: Log = print) -> dict[str, Any]:
    """Extracts features and fits probes on them, for every number of examples and every seed.

    Args:
      config: see `configs/common.py`.
      workdir: the run's folder, which gets `metrics.jsonl`, the plot, the evidence
        (`tl.evidence`), `result.json` and, made from these, `report.html`.
      log: takes a line of text.

    Returns:
      What `result.json` holds: the largest number of examples a class under `test`, averaged over
      the seeds, and every number of examples and endpoint under `study`.

    Raises:
      UserError: weights, data, endpoints or solvers that cannot be had.
    """
    start = time.perf_counter()
    options.check_lists(config)
    solvers = options.solvers(config)
    network = _network(config)
    opened = sources.open_sources(config.data)
    stores = _extract(config, network, opened, log)
    extracted = time.perf_counter()

    def record(cell: Mapping[str, Any]) -> None:
        begin(workdir)  # the first one shows that the solvers' fields can be used
        append_jsonl(workdir / "metrics.jsonl", cell)
        log(tables.cell_line(cell))

    classes = opened["train"].classes
    parts = study.parts(
        stores,
        examples_per_class=config.data.examples_per_class,
        seeds=config.seeds,
        # A folder may have a val split that the config does not name.
        val_fraction=None if "val" in stores else sources.carved_fraction(config.data.val),
    )
    summary, headline = study.run(
        parts, classes=classes, endpoints=config.endpoints, solvers=solvers, record=record
    )
    fitted = time.perf_counter()
    data = {**_data(opened, stores), **summary.pop("counts")}

    def image(split: str, row: int) -> np.ndarray:
        source = opened.get(split, opened["train"])  # of which val may be a part
        return source[int(headline.parts[split][1][row])]["image"]

    evidence.write(workdir, headline.predictions(classes), headline.projection(), image)
    plots.accuracy_over_endpoint(
        summary["study"], f"{network.spec.name} on {data['name']}: probes", workdir / PLOT
    )
    result = {
        "schema": SCHEMA,
        "kind": "probe",
        "data": data,
        "weights": _weights(network),
        **summary,
        "seconds": {
            "extract": extracted - start,
            "fit": fitted - extracted,
            "total": time.perf_counter() - start,
        },
    }
    write_json(workdir / "result.json", result)
    log("\n" + tables.study_table(result["study"]) + "\n\n" + tables.result_table(result))
    for warning in result["warnings"]:
        if warning.split(": ", 1)[1].startswith(result["selected"]["endpoint"] + ","):
            log(f"warning: {warning}")
    log(f"\nwritten: {workdir / 'result.json'}, {workdir / PLOT}")
    write_report(config, workdir, log)
    return result


def evaluate(config: ConfigDict, workdir: Path, log: Log = print) -> dict[str, Any]:
    """Measures top-1 and top-5 of a network's own head on the test split of labelled images.

    Args:
      config: see `configs/common.py`; `data.test` is the split.
      workdir: the run's folder, which gets `result.json`.
      log: takes a line of text.

    Raises:
      UserError: as `probe`; or the data have classes that the head has not.
    """
    start = time.perf_counter()
    network = _network(config)
    source = sources.open_source(config.data, config.data.test)
    index = _outputs_of(network, source.classes)
    config = ConfigDict({**config, "endpoints": ("logits",)})
    stores = _extract(config, network, {"test": source}, log)
    store = stores["test"]
    rows = np.flatnonzero(store.labels() >= 0)
    logits, labels = store.read("logits", rows), index[store.labels()[rows]]
    result = {
        "schema": SCHEMA,
        "kind": "evaluate",
        "data": {**_data({"test": source}, stores), "test": len(rows)},
        "weights": _weights(network),
        "test": score_logits(logits, labels, logits.shape[1]).as_dict(),
        "published": {"top1": network.spec.top1, "top5": network.spec.top5},
        "seconds": {"total": time.perf_counter() - start},
    }
    begin(workdir)
    write_json(workdir / "result.json", result)
    log("\n" + tables.evaluation_table(result))
    log(f"\nwritten: {workdir / 'result.json'}")
    write_report(config, workdir, log)
    return result


def write_report(config: ConfigDict, workdir: Path, log: Log) -> None:
    """Makes a finished run's page where the config wants it; a failure is a warning."""
    if not config.report or devices.process_share()[0]:
        return
    try:
        from tl.report import page

        log(f"report: {page.build(workdir)}")
    except Exception as error:
        log(
            f"warning: no report was made ({type(error).__name__}: {error}); try again with "
            f"python -m experiments.report {workdir}"
        )


def _outputs_of(network: Pretrained, classes: Sequence[str]) -> np.ndarray:
    """Returns the number of the head's output, int64 [len(classes)], for each class of the data."""
    known = network.spec.classes
    if known:
        if unknown := [name for name in classes if name not in known]:
            raise UserError(
                f"{len(unknown)} of {len(classes)} classes are not {network.spec.name}'s: "
                f"{', '.join(unknown[:5])}; expected some of {', '.join(known[:20])}"
            )
        return np.array([known.index(name) for name in classes])
    if network.spec.num_classes != len(imagenet.wnids()):
        raise UserError(
            f"{network.spec.name} has {network.spec.num_classes or 'no'} classes; evaluate takes "
            "weights with ImageNet's 1,000, such as resnet50.tv1, or a fine-tuning run"
        )
    return imagenet.indices(classes)


def _network(config: ConfigDict) -> Pretrained:
    return load(config.weights, like=config.weights_like, prefix=config.weights_prefix)


def _extract(
    config: ConfigDict, network: Pretrained, opened: Mapping[str, Any], log: Log
) -> dict[str, FeatureStore]:
    extraction = options.extraction(config)
    preprocessing = transforms.with_overrides(network.spec.preprocessing, **config.preprocess)
    # Runs that share a store may ask for endpoints that a network or its images lack; only they
    # are to fail.
    there = {
        *output_shapes(network.model, preprocessing.size),
        *"+".join(config.endpoints).split("+"),
    }
    if all(source.image_shape for source in opened.values()):
        there.add(PIXELS)
    if lacking := [name for name in extraction.endpoints if name not in there]:
        log(f"not stored, since there is no such endpoint: {', '.join(lacking)}")
        kept = tuple(name for name in extraction.endpoints if name in there)
        extraction = dataclasses.replace(extraction, endpoints=kept)
    root = options.feature_root(config)
    stores = {
        split: extract_features(
            network,
            source,
            preprocessing,
            extraction,
            root,
            verify_rows=config.extract.verify_rows,
            log=log,
        )
        for split, source in opened.items()
    }
    for split, store in stores.items():
        _check_labels(split, store, config.data.skip_corrupt)
    return stores


def _check_labels(split: str, store: FeatureStore, skip_corrupt: bool) -> None:
    """Raises UserError where rows without a label are not to be left out, or are all there are.

    The features are the same with and without `skip_corrupt`, so an earlier run may have left them.
    """
    without = np.flatnonzero(store.labels() == CORRUPT)
    if len(without) == store.num_rows:
        raise UserError(f"no image of {split} has a label; choose another --config.data.{split}")
    if len(without) and not skip_corrupt:
        raise UserError(
            f"{len(without)} of {store.num_rows} images of {split} cannot be decoded or have no "
            f"label, the first is {store.ids()[without[0]]}; repair or remove them, or leave such "
            "images out with --config.data.skip_corrupt"
        )


def _data(opened: Mapping[str, Any], stores: Mapping[str, FeatureStore]) -> dict[str, Any]:
    first = next(iter(opened.values()))
    return {
        "name": first.name,
        "version": first.version,
        "splits": {split: source.split for split, source in opened.items()},
        "classes": len(first.classes),
        **{split: len(source) for split, source in opened.items()},
        "left_out": {
            split: int(np.sum(store.labels() == CORRUPT)) for split, store in stores.items()
        },
    }


def _weights(network: Pretrained) -> dict[str, str]:
    return {"name": network.spec.name, "sha256": network.sha256}
