"""Evaluates a network on a part of the data, every example exactly once."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from tl import devices, hosts
from tl.devices import DataParallel
from tl.errors import UserError
from tl.models.backbone import FINAL, Network
from tl.train.inputs import Inputs
from tl.train.losses import LossFunction
from tl.train.steps import eval_step, forward
from tl.tree import Tree

Step = Callable[[Tree, Mapping[str, jax.Array]], Any]  # (variables, batch) -> results, compiled


@dataclasses.dataclass(frozen=True)
class Outputs:
    """A network's logits for the labelled examples of a part, in the order of the part's rows.

    Attributes:
      places: int64 [N], index of each example among the part's rows; images left out are missing.
      ids: N names.
      labels: int32 [N].
      logits: float32 [N, C].
    """

    places: Int[np.ndarray, " n"]
    ids: Sequence[str]
    labels: Int[np.ndarray, " n"]
    logits: Float[np.ndarray, "n c"]


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Runs a network over a part of the data on all devices.

    Attributes:
      model: the Flax module.
      inputs: the data.
      parallel: the devices.
      batch_size: examples on all devices together, rounded up to a multiple of their number.
      loss: the training loss, see `tl.train.losses`; its mean on one-hot targets is a metric.
    """

    model: Network
    inputs: Inputs
    parallel: DataParallel
    batch_size: int
    loss: LossFunction = optax.softmax_cross_entropy

    def metrics(self, variables: Tree, part: str) -> dict[str, float]:
        """Returns the means of loss, top1 and, of more than five classes, top5 over a part.

        Raises:
          UserError: no image of the part can be decoded.
        """
        names = ["loss", "top1", *(["top5"] if self.model.num_classes > 5 else [])]
        sums = {name: np.zeros(2) for name in names}
        seen = 0
        for _, result in self._results(self._step, variables, self.inputs, part):
            sums = {name: pair + np.float64(result[name]) for name, pair in sums.items()}
            seen += int(np.sum(result["mask"]))
        if not seen:
            raise UserError(f"no image of {part} can be decoded")
        for name, (_, count) in sums.items():
            if count != seen:
                raise RuntimeError(f"{name} was summed over {count} of {seen} examples of {part}")
        return {name: float(total / count) for name, (total, count) in sums.items()}

    def outputs(self, variables: Tree, part: str) -> Outputs:
        """Returns the logits of all labelled examples of a part, with their names and labels.

        Raises:
          UserError: no image of the part can be decoded.
        """
        names, masks, labels, logits = [], [], [], []
        for batch, result in self._results(self._step, variables, self.inputs, part):
            names.append(batch["id"])  # of the examples that this process has loaded
            mask = np.asarray(result["mask"])
            masks.append(mask)
            labels.append(np.asarray(result["label"])[mask])
            logits.append(np.asarray(result["logits"])[mask])
        if not any(map(np.any, masks)):
            raise UserError(f"no image of {part} can be decoded")
        # Rows that pad the last batch come after all examples.
        places = np.flatnonzero(np.concatenate(masks))
        ids = _in_order(names)
        return Outputs(
            places, [ids[i] for i in places], np.concatenate(labels), np.concatenate(logits)
        )

    def pooled(
        self, variables: Tree, part: str, places: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, "n d"]:
        """Returns the features that the head takes, for some examples.

        Args:
          variables: `params` and `batch_stats`.
          part: name of a part of the data.
          places: int [n], n >= 1, index of labelled examples among the part's rows.
        """
        source, rows = self.inputs.parts[part]
        chosen = dataclasses.replace(self.inputs, parts={part: (source, rows[places])})
        results = self._results(self._pool, variables, chosen, part)
        return np.concatenate(
            [np.asarray(result["pooled"])[np.asarray(result["mask"])] for _, result in results]
        )

    def _results(
        self, step: Step, variables: Tree, inputs: Inputs, part: str
    ) -> Iterator[tuple[dict, Any]]:
        count = self.parallel.device_count
        batch_size = -(-self.batch_size // count) * count
        loaded = inputs.batches(part, batch_size, hosts.process_share())
        return devices.prefetch(
            loaded, lambda batch: (batch, step(variables, self.parallel.put(batch)))
        )

    @functools.cached_property
    def _step(self) -> Step:
        run_network = functools.partial(forward, model=self.model, start=self.inputs.start)
        step = functools.partial(
            devices.in_full_precision(eval_step),
            forward=run_network,
            prepare=self.inputs.prepare_eval,
            loss=self.loss,
        )

        def labelled_eval_step(variables: Tree, batch: Mapping[str, jax.Array]) -> dict[str, Any]:
            return {**step(variables, batch), "label": batch["label"], "mask": batch["mask"]}

        return self.parallel.compile(labelled_eval_step)

    @functools.cached_property
    def _pool(self) -> Step:
        @devices.in_full_precision
        def pooled(variables: Tree, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
            inputs = self.inputs.prepare_eval(batch["image"])
            outputs = self.model.apply(variables, inputs, start=self.inputs.start, stop=FINAL)
            values = cast(dict[str, jax.Array], outputs)[FINAL].astype(jnp.float32)
            return {"pooled": values, "mask": batch["mask"]}

        return self.parallel.compile(pooled)


def _in_order(names: Sequence[Sequence[str]]) -> list[str]:
    """Returns the names of all examples, from those of each batch that this process has loaded."""
    received = hosts.gather_texts([name for batch in names for name in batch])
    size = len(names[0])
    return [
        name
        for at in range(0, size * len(names), size)
        for of_process in received
        for name in of_process[at : at + size]
    ]
