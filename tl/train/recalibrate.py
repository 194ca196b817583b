"""Estimates the batch statistics of a network on other images, without training (AdaBN).

Li et al. 2016, arXiv:1603.04779. Each batch passes through the network normalised by its own
statistics. The new mean and variance of a layer are those of its inputs over all batches:
var = E[var of a batch + mean of a batch ** 2] - mean ** 2.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float64

from tl import hosts, tree
from tl.devices import DataParallel, in_full_precision
from tl.errors import UserError
from tl.train import freezing
from tl.train.inputs import Inputs
from tl.train.steps import forward
from tl.tree import Tree
from tl.weights.load import Pretrained


def recalibrate(
    network: Pretrained,
    freeze: Collection[str],
    inputs: Inputs,
    batch_size: int,
    parallel: DataParallel,
) -> Pretrained:
    """Returns the network with the batch statistics of the training images, without augmentation.

    Args:
      network: is not changed.
      freeze: patterns of the modules that keep their statistics.
      inputs: the data; batches with padding or corrupt images are left out.
      batch_size: images that are normalised together.
      parallel: the devices.

    Raises:
      UserError: all statistics are frozen.
    """
    frozen = freezing.make_freezing(network.variables, freeze, "train")
    norms = freezing.train_mode_norms(frozen, network.variables["batch_stats"])
    if not norms:
        raise UserError(
            f"`train.freeze={tuple(freeze)}` holds all statistics, so none can be estimated; take "
            "them out, as in ('*', '!*/bn', '!head'), or choose 'frozen'",
            field="train.norm",
        )
    run_network = functools.partial(
        forward,
        model=network.model.clone(norm_momentum=0.0),  # the update keeps the batch's alone
        train=norms,
        start=inputs.start,
    )

    @in_full_precision
    def statistics(variables: Tree, batch: Any) -> Tree:
        return run_network(variables, inputs.prepare_eval(batch["image"]))[1]

    whole = (
        parallel.put(batch)
        for batch in inputs.batches("train", batch_size, hosts.process_share())
        if hosts.all_of(bool(batch["mask"].all()))
    )
    variables = parallel.place(network.variables)
    estimated = estimate_statistics(parallel.compile(statistics), variables, whole)
    kept, _ = tree.partition(network.variables["batch_stats"], frozen.statistics)
    batch_stats = tree.merge(estimated, kept)  # since the sums would round a tiny variance to 0
    return dataclasses.replace(network, variables={**network.variables, "batch_stats": batch_stats})


def estimate_statistics(
    statistics: Callable[[Tree, dict], Tree], variables: Tree, batches: Iterable
) -> Tree:
    """Returns the batch statistics over all batches.

    Args:
      statistics: (variables, batch) -> batch_stats of this batch alone.
      variables: `params` and `batch_stats`.
      batches: of equal size, at least one.

    Raises:
      UserError: there is no batch.
    """
    sums: dict[str, np.ndarray] = {}
    count = 0
    for batch in batches:
        found = tree.leaves(jax.device_get(statistics(variables, batch)))
        moments = {path: _moment(path, found) for path in found}
        sums = {path: sums.get(path, 0.0) + moment for path, moment in moments.items()}
        count += 1
    if not count:
        raise UserError(
            "recalibrate needs at least one whole batch of training images; make it smaller",
            field="train.batch_size",
        )
    means = {path: moment / count for path, moment in sums.items()}
    old = tree.leaves(variables["batch_stats"])
    new = {}
    for path, value in means.items():
        if path.endswith("/var"):
            value = np.maximum(value - means[path.removesuffix("var") + "mean"] ** 2, 0.0)
        new[path] = value.astype(old[path].dtype)
    return tree.unflatten(new)


def _moment(path: str, found: dict[str, np.ndarray]) -> Float64[np.ndarray, "..."]:
    """Returns the mean of a batch or, for the path of a variance, its second moment."""
    value = np.asarray(found[path], np.float64)
    if path.endswith("/var"):
        value = value + np.asarray(found[path.removesuffix("var") + "mean"], np.float64) ** 2
    return value
