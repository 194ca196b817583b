"""What all kinds of runs write of themselves: data, weights, and the page."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tl import devices
from tl.features.store import CORRUPT, FeatureStore
from tl.weights.load import Pretrained

SCHEMA = 1

Log = Callable[[str], Any]


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


def describe_data(opened: Mapping[str, Any], stores: Mapping[str, FeatureStore]) -> dict[str, Any]:
    """Returns what results say of a run's data."""
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


def describe_weights(network: Pretrained) -> dict[str, str]:
    """Returns what results say of a run's weights."""
    return {"name": network.spec.name, "sha256": network.sha256}
