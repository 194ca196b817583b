"""Evaluation of a whole part of the data, exactly: masked, counted, each example once."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from tl import devices
from tl.devices import DataParallel
from tl.errors import UserError
from tl.probes.held_out import Score, score_logits
from tl.train.inputs import Inputs
from tl.train.steps import eval_step, forward
from tl.tree import Tree


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
        for batch, result in self._results(variables, part):
            sums = {name: pair + np.float64(result[name]) for name, pair in sums.items()}
            seen += int(np.sum(batch["mask"]))
        if not seen:
            raise UserError(f"no image of {part} can be decoded")
        for name, (_, count) in sums.items():
            if count != seen:
                raise RuntimeError(f"{name} was summed over {count} of {seen} examples of {part}")
        return {name: float(total / count) for name, (total, count) in sums.items()}

    def score(self, variables: Tree, part: str, num_classes: int) -> Score:
        """Returns every metric of the part's labelled examples, with an interval.

        Raises:
          UserError: there is none.
        """
        logits, labels = [], []
        for batch, result in self._results(variables, part):
            logits.append(np.asarray(result["logits"])[batch["mask"]])
            labels.append(batch["label"][batch["mask"]])
        if not sum(map(len, labels)):
            raise UserError(f"no image of {part} can be decoded")
        return score_logits(np.concatenate(logits), np.concatenate(labels), num_classes)

    def _results(self, variables: Tree, part: str) -> Iterator[tuple[dict, Mapping[str, Any]]]:
        count = self.parallel.device_count
        loaded = self.fed.batches(part, -(-self.batch_size // count) * count)
        return devices.prefetch(
            loaded, lambda batch: (batch, self._step(variables, self.parallel.put_whole(batch)))
        )

    @functools.cached_property
    def _step(self):
        run_network = functools.partial(forward, model=self.model, start=self.fed.start)
        return self.parallel.compile(
            functools.partial(eval_step, forward=run_network, prepare=self.fed.prepare_eval)
        )
