"""An extraction run: the features of every split, stored."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tl.data import sources, transforms
from tl.errors import UserError
from tl.features.extract import extract as extract_features
from tl.features.network import PIXELS, output_shapes
from tl.features.store import CORRUPT, FeatureStore
from tl.files import write_json
from tl.runs import options
from tl.runs.outcome import SCHEMA, Log, describe_data, describe_weights, write_report
from tl.runs.workdir import begin
from tl.weights.load import Pretrained, load


def run(config: ConfigDict, workdir: Path, log: Log = print) -> dict[str, FeatureStore]:
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
    network = load_network(config)
    opened = sources.open_sources(config.data)
    stores = stored_features(config, network, opened, log)
    begin(workdir)
    write_json(
        workdir / "result.json",
        {
            "schema": SCHEMA,
            "kind": "extract",
            "data": describe_data(opened, stores),
            "weights": describe_weights(network),
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


def load_network(config: ConfigDict) -> Pretrained:
    """Returns the network that a config names."""
    return load(config.weights, like=config.weights_like, prefix=config.weights_prefix)


def stored_features(
    config: ConfigDict, network: Pretrained, opened: Mapping[str, Any], log: Log
) -> dict[str, FeatureStore]:
    """Returns the complete store of each split."""
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
