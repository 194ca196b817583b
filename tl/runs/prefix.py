"""Runs the frozen first stages once and stores their outputs, from which training starts."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from tl.data.encoded import Example
from tl.data.sources import Examples, Source
from tl.errors import UserError
from tl.features.extract import extract_parts
from tl.features.network import Extraction, output_shapes
from tl.features.store import FeatureStore
from tl.files import Log
from tl.models import lora
from tl.train import inputs
from tl.train.freezing import frozen_prefix, make_freezing
from tl.train.plan import Plan


def cached(
    plan: Plan,
    parts: Mapping[str, tuple[Source, np.ndarray]],
    extraction: Extraction,
    root: Path,
    log: Log,
) -> inputs.Inputs:
    """Returns what training is fed from the end of the longest frozen prefix on.

    The losses are those of the whole network run every time, for it is the same arithmetic on the
    same examples in the same order.

    Args:
      plan: of the run.
      parts: `train`, `val` and `test` to (source, rows).
      extraction: how outputs are computed; of which endpoint is decided here.
      root: directory of all feature stores.
      log: takes a line of text.

    Raises:
      UserError: the first stage is not frozen.
    """
    recipe, network = plan.recipe, plan.network
    # What LoRA adds is of no account in the prefix, and would make its stored outputs others.
    plain = {**network.variables, "params": lora.merged(network.variables["params"])}
    frozen = plan.phases[-1].freezing  # the last phase holds least
    if recipe.norm == "recalibrate":
        # What is estimated anew before the first step is not what the prefix would run with.
        held = make_freezing(network.variables, recipe.freeze, "train").statistics
        frozen = dataclasses.replace(frozen, statistics=held)
    prefix = frozen_prefix(network.variables, frozen, network.backbone.endpoints)
    if prefix is None:
        raise UserError(
            "it needs stages that stay frozen, from the first on, such as "
            f"`train.freeze=('stem','stage1')`, got {recipe.freeze}",
            field="train.cache_prefix",
        )
    log(f"the network up to {prefix} runs once; training starts from what it gives")
    stores = extract_parts(
        dataclasses.replace(network, variables=plain),
        parts,
        network.spec.preprocessing,
        # Batch normalisation is not folded, as in training.
        dataclasses.replace(extraction, endpoints=(prefix,), pooling="none", fold_batch_norm=False),
        root,
        log=log,
    )
    shape = output_shapes(network.model, network.spec.preprocessing.size)[prefix].shape[1:]
    rows = {part: rows for part, (_, rows) in parts.items()}
    return of_activations(stores, rows, prefix, shape)


def of_activations(
    stores: Mapping[str, FeatureStore],
    rows: Mapping[str, np.ndarray],
    endpoint: str,
    shape: tuple[int, ...],
) -> inputs.Inputs:
    """Returns the inputs of a network that is run from an endpoint on, all held in memory.

    Args:
      stores: for each part, that of its split; features are `pooling='none'`.
      rows: of each part, in its store.
      endpoint: whose output they are.
      shape: of one example's, [h, w, C].
    """
    parts: dict[str, tuple[Examples, np.ndarray]] = {
        part: (Activations(store, rows[part], endpoint, shape), np.arange(len(rows[part])))
        for part, store in stores.items()
    }
    return inputs.Inputs(
        parts=parts,
        augment=inputs.unchanged,
        transform=None,
        prepare_train=_as_stored,
        prepare_eval=_as_stored,
        start=endpoint,
        threads=0,  # there is nothing to decode
    )


class Activations:
    """Some rows of a feature store as a source whose images are outputs of an endpoint."""

    def __init__(
        self, store: FeatureStore, rows: np.ndarray, endpoint: str, shape: tuple[int, ...]
    ):
        self.image_shape: tuple[int, ...] | None = shape
        self.values = store.read(endpoint, rows).reshape(-1, *shape)
        self._labels = store.labels()[rows]
        names = store.ids()
        self._ids = [names[row] for row in rows]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> Example:
        return {
            "image": self.values[row],
            "label": int(self._labels[row]),
            "id": self._ids[row],
        }

    def labels(self) -> np.ndarray:
        """Returns the labels, int32 [N]."""
        return self._labels.copy()


def _as_stored(values: jax.Array) -> jax.Array:
    return values
