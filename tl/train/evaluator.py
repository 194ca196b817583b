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

from tl import devices
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
        for batch, result in self._results(self._step, variables, self.inputs, part):
            sums = {name: pair + np.float64(result[name]) for name, pair in sums.items()}
            seen += int(np.sum(batch["mask"]))
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
        masks, ids, labels, logits = [], [], [], []
        for batch, result in self._results(self._step, variables, self.inputs, part):
            mask = batch["mask"]
            masks.append(mask)
            ids += [batch["id"][i] for i in np.flatnonzero(mask)]
            labels.append(batch["label"][mask])
            logits.append(np.asarray(result["logits"])[mask])
        if not ids:
            raise UserError(f"no image of {part} can be decoded")
        # Rows that pad the last batch come after all examples.
        places = np.flatnonzero(np.concatenate(masks))
        return Outputs(places, ids, np.concatenate(labels), np.concatenate(logits))

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
        return np.concatenate([np.asarray(values)[batch["mask"]] for batch, values in results])

    def _results(
        self, step: Step, variables: Tree, inputs: Inputs, part: str
    ) -> Iterator[tuple[dict, Any]]:
        count = self.parallel.device_count
        loaded = inputs.batches(part, -(-self.batch_size // count) * count)
        return devices.prefetch(
            loaded, lambda batch: (batch, step(variables, self.parallel.put_whole(batch)))
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
        return self.parallel.compile(step)

    @functools.cached_property
    def _pool(self) -> Step:
        @devices.in_full_precision
        def pooled(variables: Tree, batch: dict[str, jax.Array]) -> jax.Array:
            inputs = self.inputs.prepare_eval(batch["image"])
            outputs = self.model.apply(variables, inputs, start=self.inputs.start, stop=FINAL)
            return cast(dict[str, jax.Array], outputs)[FINAL].astype(jnp.float32)

        return self.parallel.compile(pooled)
