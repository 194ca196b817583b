"""The frozen first stages, run once: their outputs are stored and training starts from them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tl.errors import UserError
from tl.features.extract import extract_parts
from tl.features.network import Extraction, output_shapes
from tl.models import registry
from tl.runs import options
from tl.train import inputs
from tl.train.freezing import Freezing, freezing, frozen_prefix
from tl.weights.load import Pretrained


def cached(
    config: ConfigDict,
    network: Pretrained,
    frozen: Freezing,
    parts: Mapping[str, tuple[Any, np.ndarray]],
    log: Callable[[str], Any],
) -> inputs.Inputs:
    """Returns what training is fed from the end of the longest frozen prefix on.

    The losses are those of the whole network run every time, for it is the same arithmetic on the
    same examples in the same order.

    Args:
      config: see `configs/common.py`.
      network: whose stages run.
      frozen: what does not move in any step.
      parts: `train`, `val` and `test` to (source, rows).
      log: takes a line of text.

    Raises:
      UserError: images change from epoch to epoch, or the first stage is not frozen.
    """
    if options.augmentation(config).active or options.mixing(config).active:
        raise UserError(
            "--config.train.cache_prefix runs the frozen stages once for each image, and so needs "
            "--config.augment to change none; switch off one of the two"
        )
    if config.train.norm == "recalibrate":
        # What is estimated anew before the first step is not what the prefix would run with.
        held = freezing(network.variables, config.train.freeze, "train").statistics
        frozen = dataclasses.replace(frozen, statistics=held)
    endpoints = registry.get(network.spec.backbone).endpoints
    prefix = frozen_prefix(network.variables, frozen, endpoints)
    if prefix is None:
        raise UserError(
            "--config.train.cache_prefix needs stages that stay frozen, from the first on, such as "
            f"--config.train.freeze=\"('stem','stage1')\", got {config.train.freeze}"
        )
    log(f"the network up to {prefix} runs once; training starts from what it gives")
    extraction = Extraction(
        endpoints=(prefix,),
        pooling="none",
        dtype=options.compute_dtype(config),
        batch_size=config.extract.batch_size,
        fold_batch_norm=False,  # as in training
        mapper=config.extract.mapper,
        threads=config.extract.threads,
    )
    preprocessing, root = network.spec.preprocessing, options.feature_root(config)
    stores = extract_parts(network, parts, preprocessing, extraction, root, log=log)
    shape = output_shapes(network.model, preprocessing.size)[prefix].shape[1:]
    rows = {part: rows for part, (_, rows) in parts.items()}
    return inputs.of_activations(stores, rows, prefix, shape)
