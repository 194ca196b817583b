"""What a training run carries from step to step, and nothing else."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from tl.tree import Tree


class TrainState(flax.struct.PyTreeNode):
    """A pytree that `train_step` maps to the next one.

    Attributes:
      step: updates done, int32 scalar.
      params: every parameter, frozen ones too; float32.
      batch_stats: every running statistic; float32.
      opt_state: of the optimizer, over the parameters that train and no others.
      ema: None, or `{'params', 'batch_stats'}` averaged over the steps, which is then what is
        evaluated and kept.
      key: uint32, the data of a JAX key; each step folds its number into it.
    """

    step: jax.Array
    params: Tree
    batch_stats: Tree
    opt_state: Any
    ema: Tree | None
    key: jax.Array

    @classmethod
    def create(cls, variables: Tree, opt_state: Any, seed: int, *, ema: bool) -> "TrainState":
        """Returns the state before the first step."""
        both = {name: variables[name] for name in ("params", "batch_stats")}
        return cls(
            step=jnp.zeros((), jnp.int32),
            **both,
            opt_state=opt_state,
            # A copy: two names for one buffer could not both be donated.
            ema=jax.tree.map(jnp.array, both) if ema else None,
            key=jax.random.key_data(jax.random.key(seed)),
        )

    @property
    def evaluated(self) -> Tree:
        """The variables that count: the average where there is one."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}
