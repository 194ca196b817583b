"""Estimates batch statistics anew on other images, without training (AdaBN).

Li et al. 2016, arXiv:1603.04779. Each batch passes through the network normalised by its own
statistics; a layer's new mean and variance are those of all its inputs seen on the way, by
var = E[var of a batch + mean of a batch ** 2] - mean ** 2.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable
from typing import Any

import jax
import numpy as np

from tl import tree
from tl.devices import DataParallel
from tl.errors import UserError
from tl.train import freezing
from tl.train.inputs import Inputs
from tl.train.steps import forward
from tl.tree import Tree
from tl.weights.load import Pretrained


def recalibrated(
    network: Pretrained,
    freeze: Collection[str],
    fed: Inputs,
    batch_size: int,
    parallel: DataParallel,
) -> Pretrained:
    """Returns the network with statistics of the training images, as they are evaluated.

    Args:
      network: is not changed.
      freeze: patterns of what keeps its own statistics.
      fed: the data; a last batch of fewer images is left out.
      batch_size: images that are normalised together.
      parallel: the devices.
    """
    held = freezing.freezing(network.variables, freeze, "train")
    run_network = functools.partial(
        forward,
        model=network.model.clone(norm_momentum=0.0),  # so that the batch's own statistics remain
        moving=freezing.moving_norms(held, network.variables["batch_stats"]),
        start=fed.start,
    )

    def statistics(variables: Tree, batch: Any) -> Tree:
        return run_network(variables, fed.prepare_eval(batch["image"]))[1]

    whole = (
        parallel.put_whole(batch)
        for batch in fed.batches("train", batch_size)
        if batch["mask"].all()
    )
    variables = parallel.replicate(network.variables)
    estimated = estimate(parallel.compile(statistics), variables, whole)
    kept, _ = tree.partition(network.variables["batch_stats"], held.statistics)
    batch_stats = tree.merge(estimated, kept)  # a tiny variance does not survive the sums
    return dataclasses.replace(network, variables={**network.variables, "batch_stats": batch_stats})


def estimate(statistics: Callable[[Tree, dict], Tree], variables: Tree, batches: Iterable) -> Tree:
    """Returns new running statistics.

    Args:
      statistics: (variables, batch) -> batch_stats with those of the batch alone where they are to
        be estimated, and the running ones elsewhere.
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


def _moment(path: str, found: dict[str, np.ndarray]) -> np.ndarray:
    """The mean, or the second moment in the place of the variance, in float64."""
    value = np.asarray(found[path], np.float64)
    if path.endswith("/var"):
        value = value + np.asarray(found[path.removesuffix("var") + "mean"], np.float64) ** 2
    return value
