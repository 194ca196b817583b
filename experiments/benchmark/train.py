"""Images a second of fine-tuning: one whole update, forward, backward, momentum and statistics."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from experiments.benchmark import contest, features, peers, rows
from experiments.benchmark.contest import Contestant
from experiments.benchmark.options import Options

if TYPE_CHECKING:  # they import JAX, which peers need not wait for
    from tl.devices import DataParallel
    from tl.train.loop import CompiledPhase
    from tl.train.state import TrainState

Batch = dict[str, np.ndarray]

# The backward pass computes two products, for kernels and for inputs, where the forward has one.
PASSES = 3


def measure(options: Options, limits: dict[str, float], log: contest.Log) -> list[rows.Row]:
    """Returns a row for each of `train_sizes`."""
    found = []
    for size in options.train_sizes:
        batch_size = options.batch_size or (32 if size <= 64 else 16)
        arguments = (options.backbone, size, batch_size)
        contestants = [
            Contestant("ours", ours, (*arguments, options.train_config)),
            Contestant("flax", peers.flax_step, arguments),
            Contestant("torch", peers.torch_step, arguments, ("torch", "timm")),
        ]
        outcomes = contest.run(
            [c for c in contestants if c.name in ("ours", *options.peers)],
            rounds=options.rounds,
            seconds=options.seconds,
            log=log,
        )
        forward = contest.alone(features.forward_flops, options.backbone, size, log=log).value
        row = rows.make(
            "train",
            "images/s",
            outcomes,
            amount=batch_size,
            case=options.backbone,
            size=size,
            flops=PASSES * (forward or 0.0),
            limit=limits.get("float32", 0.0),
            batch_size=batch_size,
        )
        found.append(row)
    return found


def ours(backbone: str, size: int, batch_size: int, config: ConfigDict) -> peers.Work:
    """Ours: the compiled step of a fine-tuning run, from bytes, on all devices."""
    phase, state, batch, parallel = prepared(backbone, size, batch_size, config)

    def work() -> float:
        nonlocal state
        state, measured = phase.step(state, parallel.put(batch))
        return float(measured["loss"])

    return peers.warm(work)


def prepared(
    backbone: str,
    size: int,
    batch_size: int,
    config: ConfigDict,
    dtype: str = "float32",
    fields: Mapping[str, Any] | None = None,
) -> tuple["CompiledPhase", "TrainState", Batch, "DataParallel"]:
    """Returns the step of a fine-tuning run, its first state on the devices, a batch and these.

    Args:
      backbone, size, batch_size: what is trained on what.
      config: `configs/common.py`; stays as it is.
      dtype: of compute.
      fields: of the config, by dotted name, where they differ from SGD with momentum.
    """
    import jax
    import jax.numpy as jnp

    from experiments.benchmark.synthetic import NoiseSource, random_images, random_network
    from tl.devices import DataParallel
    from tl.runs import options
    from tl.train.inputs import image_inputs
    from tl.train.plan import make_plan

    config = config.copy_and_resolve_references()
    config.optim.update(
        name="sgd",
        learning_rate=peers.LEARNING_RATE,
        schedule="constant",
        momentum=0.9,
        nesterov=False,
    )
    config.train.steps = 1000
    config.update_from_flattened_dict(fields or {})
    recipe = options.recipe(config, batch_size, (size, size, 3))
    network = random_network(backbone, size, peers.CLASSES, dtype=jnp.dtype(dtype))
    parts = {"train": (NoiseSource(batch_size, size), np.arange(batch_size))}
    inputs = image_inputs(parts, recipe.augmentation, network.spec.preprocessing, threads=0)
    plan = make_plan(recipe, network)
    parallel = dataclasses.replace(DataParallel.over(), sharding=recipe.sharding)
    (phase,) = plan.compiled(inputs, parallel)
    variables = jax.tree.map(jnp.array, network.variables)
    state = parallel.place(plan.state(variables, plan.phases[0]))
    batch = {
        "image": random_images(batch_size, size),
        "label": peers.labels(batch_size),
        "mask": np.ones(batch_size, bool),
    }
    return phase, state, batch, parallel
