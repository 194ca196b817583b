"""The parts of a result that all kinds of runs share: data, weights, the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tl import hosts
from tl.data.sources import Source
from tl.features.store import NO_LABEL, FeatureStore
from tl.files import Log, write_json
from tl.results import formats
from tl.results.called import as_called
from tl.runs.workdir import RESULT
from tl.weights.load import Pretrained


def write_result(workdir: Path, result: Mapping[str, Any]) -> None:
    """Writes `result.json`, by which a run is finished; only process 0 writes."""
    if hosts.is_first():
        write_json(workdir / RESULT, result)


def write_report(wanted: bool, workdir: Path, log: Log) -> None:
    """Makes a finished run's page where it is wanted.

    Only process 0 makes it. A failure is a warning.
    """
    if not wanted or not hosts.is_first():
        return
    try:
        from tl.report import page

        log(f"report: {page.build(workdir)}")
    except Exception as error:
        log(
            f"warning: no report was made ({type(error).__name__}: {error}); try again with "
            f"{as_called('python -m experiments.report')} {workdir}"
        )


def usage(workdir: Path) -> str:
    """Returns how to use the classifier that a run has left."""
    return f"\nuse it:\n  {formats.predict_command(workdir)}\n" + "\n".join(
        f"  {line}" for line in formats.predict_lines(workdir)
    )


def describe_data(opened: Mapping[str, Source], counts: Mapping[str, float]) -> dict[str, Any]:
    """Returns the `data` of a result.

    Args:
      opened: split to source.
      counts: numbers of images by name, such as 'train', which follow the facts of the data set.
    """
    first = next(iter(opened.values()))
    return {
        "name": first.name,
        "version": first.version,
        "splits": {split: source.split for split, source in opened.items()},
        "classes": len(first.classes),
        **counts,
    }


def left_out(stores: Mapping[str, FeatureStore]) -> dict[str, int]:
    """Returns the number of images of each split that could not be decoded or have no label."""
    return {split: int(np.sum(store.labels() == NO_LABEL)) for split, store in stores.items()}


def describe_weights(network: Pretrained) -> dict[str, str]:
    """Returns the `weights` of a result."""
    return {"name": network.spec.name, "sha256": network.sha256}
