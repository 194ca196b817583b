"""An evaluation run: the accuracy of a network's own head on a labelled test split."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tl.data import imagenet, sources
from tl.errors import UserError
from tl.files import Log, write_json
from tl.models.registry import LOGITS
from tl.probes.held_out import score_logits
from tl.report import tables
from tl.results.run import SCHEMA
from tl.runs import options
from tl.runs.extract import load_network, stored_features
from tl.runs.outcome import describe_data, describe_weights, left_out, write_report
from tl.runs.workdir import begin
from tl.weights.load import Pretrained


def run(config: ConfigDict, workdir: Path, log: Log = print) -> dict[str, Any]:
    """Measures top-1 and top-5 of a network's own head on the test split of labelled images.

    Args:
      config: see `configs/common.py`; `data.test` is the split.
      workdir: the run's folder, which gets `result.json`.
      log: takes a line of text.

    Raises:
      UserError: as `probe`; or the data have classes that the head has not.
    """
    start = time.perf_counter()
    data, wanted = options.data(config), options.features(config, endpoints=(LOGITS,))
    network = load_network(options.weights(config))
    source = sources.open_source(data, data.test, field="data.test")
    index = _outputs_of(network, source.classes)
    stores = stored_features(wanted, network, {"test": source}, log)
    store = stores["test"]
    rows = np.flatnonzero(store.labels() >= 0)
    logits, labels = store.read(LOGITS, rows), index[store.labels()[rows]]
    result = {
        "schema": SCHEMA,
        "kind": "evaluate",
        "data": {
            **describe_data({"test": source}, {"test": len(rows)}),
            "left_out": left_out(stores),
        },
        "weights": describe_weights(network),
        "test": score_logits(logits, labels, logits.shape[1]).as_dict(),
        "published": {"top1": network.spec.top1, "top5": network.spec.top5},
        "seconds": {"total": time.perf_counter() - start},
    }
    begin(workdir)
    write_json(workdir / "result.json", result)
    log("\n" + tables.evaluation_table(result))
    log(f"\nwritten: {workdir / 'result.json'}")
    write_report(config.report, workdir, log)
    return result


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
