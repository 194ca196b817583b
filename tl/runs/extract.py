"""An extraction run: computes and stores the features of every split."""

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from tl.data import sources
from tl.data.sources import Source
from tl.errors import UserError, nearest
from tl.features.extract import extract
from tl.features.network import PIXELS, output_shapes
from tl.features.store import NO_LABEL, FeatureStore
from tl.files import Log
from tl.results.run import SCHEMA
from tl.runs import options
from tl.runs.options import Features
from tl.runs.outcome import describe_data, describe_weights, left_out, write_report, write_result
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
    weights = options.weights(config)
    network = load(weights.name, **weights.reading)
    wanted = options.features(config).of(network.backbone)
    opened = sources.open_sources(options.data(config), labelled=False)
    stores = stored_features(wanted, network, opened, log)
    begin(workdir)
    counts = {split: len(source) for split, source in opened.items()}
    write_result(
        workdir,
        {
            "schema": SCHEMA,
            "kind": "extract",
            "data": {**describe_data(opened, counts), "left_out": left_out(stores)},
            "weights": describe_weights(network),
            "features": {
                split: {"path": str(store.path), "count": store.num_rows, "widths": store.widths}
                for split, store in stores.items()
            },
            "warnings": sources.warnings(opened),
            "seconds": {"total": time.perf_counter() - start},
        },
    )
    log(f"written: {workdir / 'result.json'}")
    write_report(config.report, workdir, log)
    return stores


def stored_features(
    wanted: Features, network: Pretrained, opened: Mapping[str, Source], log: Log
) -> dict[str, FeatureStore]:
    """Returns the complete store of each split, after computing what of it is missing.

    Raises:
      UserError: the network lacks an endpoint that the config names; as
        `tl.features.extract.extract`; images without a label that are not to be left out.
    """
    extraction = wanted.extraction
    preprocessing = wanted.overrides.of(network.spec.preprocessing)
    outputs = tuple(output_shapes(network.model, preprocessing.size))
    _check_endpoints(wanted, outputs)
    # A study shares endpoints that some run misspelt or that these images lack: that run fails.
    there = {*outputs, *itertools.chain(*wanted.required.values())}
    if all(source.image_shape for source in opened.values()):
        there.add(PIXELS)
    if lacking := [name for name in extraction.endpoints if name not in there]:
        log(f"not stored for other runs, since there is no such endpoint: {', '.join(lacking)}")
        kept = tuple(name for name in extraction.endpoints if name in there)
        extraction = dataclasses.replace(extraction, endpoints=kept)
    stores = {
        split: extract(
            network,
            source,
            preprocessing,
            extraction,
            wanted.root,
            verify_rows=wanted.verify_rows,
            log=log,
        )
        for split, source in opened.items()
    }
    for split, store in stores.items():
        _check_labels(split, store, opened[split], wanted.skip_corrupt)
    return stores


def _check_endpoints(wanted: Features, outputs: Sequence[str]) -> None:
    """Raises UserError where the config names an endpoint that the network lacks."""
    known = (*outputs, PIXELS)
    for field, endpoints in wanted.required.items():
        for name in endpoints:
            if name not in known:
                raise UserError(
                    f"the network has no endpoint {name!r}{nearest(name, known)}; all of them: "
                    f"{', '.join(known)}",
                    field=field,
                )


def _check_labels(split: str, store: FeatureStore, source: Source, skip_corrupt: bool) -> None:
    """Raises UserError where corrupt images are not to be left out, or no row has a label.

    The features are the same with and without `skip_corrupt`, so an earlier run may have left them.
    Images whose label is withheld are left out in any case.
    """
    without = store.labels() == NO_LABEL
    if without.all():
        raise UserError("no image of it has a label; choose another split", field=f"data.{split}")
    if skip_corrupt or not without.any():
        return
    if len(corrupt := np.flatnonzero(without & (source.labels() >= 0))):
        raise UserError(
            f"{len(corrupt)} of {store.num_rows} images of {split} cannot be decoded, the first is "
            f"{store.ids()[corrupt[0]]}; repair or remove them, or leave such images out with "
            "`data.skip_corrupt=true`"
        )
