"""The state that training carries from step to step."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

from tl.tree import Tree


class TrainState(flax.struct.PyTreeNode):
    """The state before a step, a pytree; `train_step` returns the state after it.

    Attributes:
      step: number of updates done, int32 scalar.
      params: all parameters, frozen ones too; float32.
      batch_stats: all running statistics; float32.
      opt_state: state of the optimizer, only for the parameters that train.
      ema: None, or `{'params', 'batch_stats'}` averaged over the steps, which are then evaluated
        and saved.
      key: uint32, the data of a JAX key. Each step folds its number into it.
    """

    step: Int[Array, ""]
    params: Tree
    batch_stats: Tree
    opt_state: Any
    ema: Tree | None
    key: UInt32[Array, " k"]

    @classmethod
    def create(cls, variables: Tree, opt_state: Any, seed: int, *, ema: bool) -> "TrainState":
        """Returns the state before the first step."""
        both = {name: variables[name] for name in ("params", "batch_stats")}
        return cls(
            step=jnp.zeros((), jnp.int32),
            **both,
            opt_state=opt_state,
            # A copy, since one buffer cannot be donated twice.
            ema=jax.tree.map(jnp.array, both) if ema else None,
            key=jax.random.key_data(jax.random.key(seed)),
        )

    @property
    def evaluated(self) -> Tree:
        """The variables to evaluate: the averaged ones if there are any, else the raw ones."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}
