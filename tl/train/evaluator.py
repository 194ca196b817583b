"""Evaluation of a whole part of the data, exactly: masked, counted, each example once."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tl import devices
from tl.devices import DataParallel
from tl.errors import UserError
from tl.train.inputs import Inputs
from tl.train.steps import eval_step, forward
from tl.tree import Tree

POOLED = "pooled"  # the endpoint before the head


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a network says of the labelled examples of a part, in the order of the part's rows.

    Attributes:
      places: int64 [N], of the examples among the part's rows; images left out are missing.
      ids: N names.
      labels: int32 [N].
      logits: float32 [N, C].
    """

    places: np.ndarray
    ids: Sequence[str]
    labels: np.ndarray
    logits: np.ndarray


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Runs a network over a part of the data on all devices.

    Attributes:
      model: the Flax module.
      fed: the data.
      parallel: the devices.
      batch_size: of all of them together, rounded up to a multiple of their number.
    """

    model: nn.Module
    fed: Inputs
    parallel: DataParallel
    batch_size: int

    def metrics(self, variables: Tree, part: str) -> dict[str, float]:
        """Returns loss, top1 and top5, means over the part's labelled examples.

        Raises:
          UserError: there is none.
        """
        sums = {"loss": np.zeros(2), "top1": np.zeros(2), "top5": np.zeros(2)}
        seen = 0
        for batch, result in self._results(self._step, variables, self.fed, part):
            sums = {name: pair + np.float64(result[name]) for name, pair in sums.items()}
            seen += int(np.sum(batch["mask"]))
        if not seen:
            raise UserError(f"no image of {part} can be decoded")
        for name, (_, count) in sums.items():
            if count != seen:
                raise RuntimeError(f"{name} was summed over {count} of {seen} examples of {part}")
        return {name: float(total / count) for name, (total, count) in sums.items()}

    def outputs(self, variables: Tree, part: str) -> Outputs:
        """Returns the logits of every labelled example of a part, and whose they are.

        Raises:
          UserError: there is none.
        """
        masks, ids, labels, logits = [], [], [], []
        for batch, result in self._results(self._step, variables, self.fed, part):
            mask = batch["mask"]
            masks.append(mask)
            ids += [batch["id"][i] for i in np.flatnonzero(mask)]
            labels.append(batch["label"][mask])
            logits.append(np.asarray(result["logits"])[mask])
        if not ids:
            raise UserError(f"no image of {part} can be decoded")
        # What pads the last batch comes after all examples.
        places = np.flatnonzero(np.concatenate(masks))
        return Outputs(places, ids, np.concatenate(labels), np.concatenate(logits))

    def pooled(self, variables: Tree, part: str, places: np.ndarray) -> np.ndarray:
        """Returns the features that the head acts on, float32 [n, D].

        Args:
          variables: of the network.
          part: of the data.
          places: int [n], n >= 1, among the part's rows, of labelled examples.
        """
        source, rows = self.fed.parts[part]
        chosen = dataclasses.replace(self.fed, parts={part: (source, rows[places])})
        results = self._results(self._pool, variables, chosen, part)
        return np.concatenate([np.asarray(values)[batch["mask"]] for batch, values in results])

    def _results(
        self, step: Callable[[Tree, Any], Any], variables: Tree, fed: Inputs, part: str
    ) -> Iterator[tuple[dict, Any]]:
        count = self.parallel.device_count
        loaded = fed.batches(part, -(-self.batch_size // count) * count)
        return devices.prefetch(
            loaded, lambda batch: (batch, step(variables, self.parallel.put_whole(batch)))
        )

    @functools.cached_property
    def _step(self):
        run_network = functools.partial(forward, model=self.model, start=self.fed.start)
        return self.parallel.compile(
            functools.partial(eval_step, forward=run_network, prepare=self.fed.prepare_eval)
        )

    @functools.cached_property
    def _pool(self):
        def pooled(variables: Tree, batch: dict[str, jax.Array]) -> jax.Array:
            inputs = self.fed.prepare_eval(batch["image"])
            outputs = self.model.apply(variables, inputs, start=self.fed.start, stop=POOLED)
            return outputs[POOLED].astype(jnp.float32)

        return self.parallel.compile(pooled)
