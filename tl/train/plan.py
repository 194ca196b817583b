"""Turns a recipe into phases, learning rates, an optimizer and compiled training steps."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from tl import tree
from tl.devices import DataParallel
from tl.errors import UserError
from tl.train import freezing
from tl.train.inputs import Inputs
from tl.train.loop import CompiledPhase, phase_at
from tl.train.optim import decayed, extend_opt_state, make_optimizer
from tl.train.recipe import Recipe
from tl.train.schedules import make_schedule, multipliers
from tl.train.state import TrainState
from tl.train.steps import forward, train_step
from tl.tree import Tree
from tl.weights.load import Pretrained


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one network is trained by a recipe.

    Attributes:
      recipe: of the run.
      network: as training begins.
      phases: what is frozen in which steps.
      rates: path of every parameter to the multiplier of its learning rate.
      schedule: step -> learning rate.
      tx: the optimizer of the parameters that train.
    """

    recipe: Recipe
    network: Pretrained
    phases: list[freezing.Phase]
    rates: Mapping[str, float]
    schedule: optax.Schedule
    tx: optax.GradientTransformation

    def trained(self, phase: freezing.Phase) -> frozenset[str]:
        """Returns the paths of the parameters that train in a phase."""
        return frozenset(self.rates.keys() - phase.freezing.params)

    def phase_of(self, step: int) -> freezing.Phase:
        """Returns the phase of the last update before the state after `step` updates."""
        return phase_at(self.phases, max(step - 1, 0))

    def state(self, variables: Tree, phase: freezing.Phase) -> TrainState:
        """Returns the state before the first step of a run that begins in a phase."""
        trainable, _ = tree.partition(variables["params"], self.trained(phase))
        return TrainState.create(
            variables,
            self.tx.init(trainable),
            self.recipe.seed,
            ema=self.recipe.ema_decay > 0,
        )

    def shapes(self, phase: freezing.Phase) -> TrainState:
        """Returns the state of a phase as `jax.ShapeDtypeStruct`."""
        state: TrainState = jax.eval_shape(
            lambda variables: self.state(variables, phase), self.network.variables
        )
        return state

    def memory(self, parallel: DataParallel) -> dict[str, Any]:
        """Returns what the state of the last phase, the largest, takes on each device.

        Returns:
          `devices`, their number; `sharding`; and bytes: `variables` (parameters and batch
          statistics), `optimizer`, `average` (0 without one), `state`, all together, and `whole`,
          what that is where it is not divided.
        """
        state = self.shapes(self.phases[-1])
        return {
            "devices": parallel.device_count,
            "sharding": parallel.sharding,
            "variables": parallel.bytes_on_each((state.params, state.batch_stats)),
            "optimizer": parallel.bytes_on_each(state.opt_state),
            "average": parallel.bytes_on_each(state.ema),
            "state": parallel.bytes_on_each(state),
            "whole": sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
        }

    def tables(self, kind: Callable[..., str]) -> str:
        """Returns the tables of all phases, by `freezing.table` or `freezing.leaf_table`."""
        texts = []
        for phase in self.phases:
            heading = f"from step {phase.start}:\n" if len(self.phases) > 1 else ""
            arguments = phase.freezing, self.rates, decayed(self.rates), self.network.backbone
            texts.append(heading + kind(self.network.variables, *arguments))
        return "\n\n".join(texts)

    def parameter_counts(self) -> dict[str, int]:
        """Returns the number of `all` parameters, and of those `trained` in any phase."""
        leaves = tree.leaves(self.network.variables["params"])
        sizes = {path: np.size(leaf) for path, leaf in leaves.items()}
        trained = frozenset[str]().union(*(self.trained(phase) for phase in self.phases))
        return {"all": sum(sizes.values()), "trained": sum(sizes[path] for path in trained)}

    def compiled(self, inputs: Inputs, parallel: DataParallel) -> list[CompiledPhase]:
        """Returns the phases; the step of each is compiled at its first call."""
        return [self._compiled(phase, inputs, parallel) for phase in self.phases]

    def _compiled(
        self, phase: freezing.Phase, inputs: Inputs, parallel: DataParallel
    ) -> CompiledPhase:
        recipe, trained = self.recipe, self.trained(phase)
        norms = freezing.train_mode_norms(phase.freezing, self.network.variables["batch_stats"])
        model, shapes = self.network.model, self.shapes(phase)
        step = functools.partial(
            train_step,
            forward=functools.partial(
                forward,
                model=model.clone(remat=True) if recipe.remat else model,
                train=norms,
                start=inputs.start,
                whole=parallel.whole,
            ),
            prepare=inputs.prepare_train,
            tx=self.tx,
            schedule=self.schedule,
            trained=trained,
            num_classes=self.network.spec.num_classes,
            mixing=recipe.mixing,
            loss=recipe.loss.function,
            label_smoothing=recipe.label_smoothing,
            accumulate=recipe.accumulate,
            ema_decay=recipe.ema_decay,
        )

        def enter(state: TrainState) -> TrainState:
            trainable, _ = tree.partition(state.params, trained)
            begin = jax.jit(self.tx.init, out_shardings=parallel.layout(shapes.opt_state))
            return state.replace(opt_state=extend_opt_state(state.opt_state, begin(trainable)))

        compiled = parallel.compile(step, state=shapes, donate=True, remat=recipe.remat)
        return CompiledPhase(phase.start, phase.end, compiled, enter)


def make_plan(recipe: Recipe, network: Pretrained) -> Plan:
    """Returns the plan of a run.

    Args:
      recipe: of the run.
      network: as training begins.

    Raises:
      UserError: a pattern that matches nothing, or a step outside the run.
    """
    optim, steps = recipe.optim, recipe.cadence.steps
    rates = multipliers(
        tree.leaves(network.variables["params"]),
        optim.multipliers,
        optim.layer_decay,
        network.backbone,
    )
    if recipe.remat and not hasattr(network.model, "remat"):
        raise UserError(
            f"{network.backbone.name} has no blocks that the backward pass could compute again; "
            "leave it off",
            field="train.remat",
        )
    schedule = make_schedule(optim, max(steps, 1))
    phases = freezing.phases(network.variables, recipe.freeze, recipe.unfreeze, recipe.norm, steps)
    if recipe.head == "zero" and all("head/kernel" in p.freezing.params for p in phases):
        raise UserError(
            "the head starts at zero and is frozen, so no gradient passes it; take it out with "
            "'!head', or start with `train.head=probe`",
            field=freezing.FREEZE,
        )
    return Plan(
        recipe=recipe,
        network=network,
        phases=phases,
        rates=rates,
        schedule=schedule,
        tx=make_optimizer(optim, schedule, rates),
    )
