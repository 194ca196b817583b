"""An evaluation run: the accuracy of a finished classifier on labelled images."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tl.data import grouping, imagenet, sources
from tl.errors import UserError
from tl.files import Log
from tl.inference import model as inference
from tl.inference.model import Model
from tl.probes.held_out import score_logits
from tl.report import tables
from tl.results import evidence
from tl.results.predictions import Predictions
from tl.results.projection import project, spaced_rows
from tl.results.run import SCHEMA
from tl.results.warnings import of_labels, tell
from tl.runs import options
from tl.runs.extract import stored_features
from tl.runs.outcome import describe_data, describe_weights, left_out, write_report, write_result
from tl.runs.workdir import begin


@dataclasses.dataclass(frozen=True)
class LabelledOutputs:
    """Outputs of a model for labelled images.

    Attributes:
      ids: names of the N images.
      labels: int [N], 0..len(classes)-1.
      classes: names of the labels.
      logits: float32 [N, C].
      features: some rows' numbers -> float32 [n, D], what the head acts on.
      image: row -> uint8 [H, W, 3].
      groups: str [N], the named groups of the images; None without groups.
    """

    ids: Sequence[str]
    labels: np.ndarray
    classes: Sequence[str]
    logits: np.ndarray
    features: Callable[[np.ndarray], np.ndarray]
    image: Callable[[int], np.ndarray]
    groups: np.ndarray | None = None


def run(config: ConfigDict, workdir: Path, log: Log = print) -> dict[str, Any]:
    """Measures a classifier on the test split of labelled images.

    Args:
      config: see `configs/common.py`; `weights` is a weight set or a run, `data.test` the split.
      workdir: the run's folder, which gets the evidence (`tl.results.evidence`), `result.json` and,
        made from these, `report.html`.
      log: takes a line of text.

    Raises:
      UserError: as `probe`; or the data have classes that the head has not.
    """
    start = time.perf_counter()
    data, weights = options.data(config), options.weights(config)
    overrides = options.overrides(config)
    model = inference.load(weights.name, **weights.reading, overrides=overrides)
    model.check_head()
    endpoints = model.extraction.endpoints
    asked = options.features(config, endpoints=endpoints)
    extraction = model.extraction
    if model.head is None:  # a probe's features are made as those that it was fitted on
        extraction = asked.extraction
    else:
        same = ("batch_size", "mapper", "threads")
        extraction = dataclasses.replace(
            extraction, **{name: getattr(asked.extraction, name) for name in same}
        )
    wanted = dataclasses.replace(asked, extraction=extraction)
    network = model.network
    source = sources.open_source(data, data.test, field="data.test")
    outputs_of(model, source.classes)  # it checks
    stores = stored_features(wanted, network, {"test": source}, log)
    store = stores["test"]
    rows = np.flatnonzero(store.labels() >= 0)
    groups = grouping.names_of(source)
    found = LabelledOutputs(
        ids=np.array(store.ids())[rows].tolist(),
        labels=store.labels()[rows],
        classes=source.classes,
        logits=model.logits({name: store.read(name, rows) for name in endpoints}),
        features=lambda chosen: store.read(model.endpoint, rows[chosen]),
        image=lambda row: source[int(rows[row])]["image"],
        groups=None if groups is None else groups[rows],
    )
    described = {
        **describe_data({"test": source}, {"test": len(rows)}),
        "left_out": left_out(stores),
    }
    begin(workdir)
    warnings = sources.warnings({"test": source})
    return conclude(model, found, described, workdir, config.report, start, log, warnings)


def conclude(
    model: Model,
    found: LabelledOutputs,
    data: Mapping[str, Any],
    workdir: Path,
    report: bool,
    start: float,
    log: Log,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Scores a model's outputs and writes all that an evaluation leaves.

    Args:
      model: whose outputs.
      found: these.
      data: the `data` of the result.
      workdir: the run's folder.
      report: whether to make its page.
      start: when the run began, by `time.perf_counter`.
      log: takes a line of text.
      warnings: of the data, which the log has.

    Returns:
      What `result.json` holds.

    Raises:
      UserError: labels that the model has no output for.
    """
    network = model.network
    index = outputs_of(model, found.classes)
    warnings = [*warnings, *of_labels(found.labels, found.classes)]
    names = list(model.classes)
    for output, name in zip(index, found.classes, strict=True):
        names[output] = name  # what the data call it, so that runs on the same data compare
    labels = index[found.labels]
    predictions = Predictions(
        seeds=np.array([0]),
        classes=np.array(names),
        test_ids=np.array(found.ids),
        test_labels=labels,
        test_predicted=found.logits.argmax(axis=1)[None],
        test_logits=found.logits,
        val_ids=np.array([], np.str_),
        val_labels=np.zeros(0, np.int32),
        val_logits=np.zeros((0, len(names)), np.float32),
        link=network.spec.link,
        temperature=model.temperature,
        test_groups=found.groups,
    )
    spaced = spaced_rows(len(labels))
    projection = project(found.features(spaced), spaced, model.endpoint, standardise=False)
    evidence.write(workdir, predictions, projection, lambda _, row: found.image(row))
    result = {
        "schema": SCHEMA,
        "kind": "evaluate",
        "data": data,
        "weights": {**describe_weights(network), "name": model.name},
        "selected": {"endpoint": model.endpoint},
        "test": score_logits(found.logits, labels, len(names), found.groups).as_dict(),
        "warnings": warnings,
        "published": _published(model),
        "seconds": {"total": time.perf_counter() - start},
    }
    write_result(workdir, result)
    log("\n" + tables.evaluation_table(result))
    tell(warnings, log)
    log(f"\nwritten: {workdir / 'result.json'}")
    write_report(report, workdir, log)
    return result


def _published(model: Model) -> dict[str, float | None]:
    """Returns what was published of the network's own head; of another head nothing was."""
    spec = model.network.spec
    own = model.head is None
    return {"top1": spec.top1 if own else None, "top5": spec.top5 if own else None}


def outputs_of(model: Model, classes: Sequence[str]) -> np.ndarray:
    """Returns the number of the model's output, int64 [len(classes)], for each class of the data.

    Raises:
      UserError: a class that the model does not know.
    """
    spec = model.network.spec
    if model.head is None and not spec.classes:
        if spec.num_classes != len(imagenet.wnids()):
            raise UserError(
                f"{model.name} has {spec.num_classes or 'no'} classes without names; evaluate "
                "takes weights with ImageNet's 1,000, such as resnet50.tv1, a run, or weights "
                "whose classes `weights_classes=FILE` names"
            )
        return imagenet.indices(classes)
    if unknown := [name for name in classes if name not in model.classes]:
        raise UserError(
            f"{len(unknown)} of {len(classes)} classes are not {model.name}'s: "
            f"{', '.join(unknown[:5])}; expected some of {', '.join(model.classes[:20])}"
        )
    return np.array([model.classes.index(name) for name in classes])
