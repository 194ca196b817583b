"""Memory of training: with blocks computed again, and with its state divided over fake devices."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.benchmark import contest, peers, pipeline, rows, train
from experiments.benchmark.contest import Contestant
from experiments.benchmark.options import Options

# Two moments and an average, so that the state is four times the parameters.
STATE = {"optim.name": "adamw", "train.ema_decay": 0.999}


def measure(options: Options, limits: Mapping[str, float], log: contest.Log) -> Iterator[rows.Row]:
    """Yields rows of a step's time and temporary memory, and of the state, for each backbone."""
    for backbone in options.memory_backbones:
        yield from _computed_again(options, backbone, log)
        for count in options.devices:
            yield from _divided(options, backbone, count, log)


def _computed_again(options: Options, backbone: str, log: contest.Log) -> list[rows.Row]:
    """A step as it is and one that computes blocks again, turn by turn: seconds, then MiB."""
    outcomes = contest.run(
        [
            Contestant(name, step, _arguments(options, backbone, {"train.remat": name == "remat"}))
            for name in ("ours", "remat")
        ],
        rounds=options.rounds,
        seconds=options.seconds,
        log=log,
    )
    temporary = {name: found.value for name, found in outcomes.items() if not found.error}
    case, size, batch_size = f"{backbone}, a step", options.memory_size, options.memory_batch
    return [
        rows.make("memory", "s", outcomes, case=case, size=size, batch_size=batch_size),
        rows.of_values("memory", "MiB", temporary, case=case, size=size, batch_size=batch_size),
    ]


def _divided(options: Options, backbone: str, count: int, log: contest.Log) -> list[rows.Row]:
    """The state on the first device, and a step's temporary memory there, in MiB."""
    found: dict[str, dict[str, float]] = {"state": {}, "step": {}}
    for name, sharding in (("ours", "replicated"), ("fsdp", "fsdp")):
        outcome = contest.alone(
            on_first_device,
            *_arguments(options, backbone, {**STATE, "train.sharding": sharding}),
            environment=pipeline.fake_devices(count),
            log=log,
        )
        if not outcome.error:
            found["state"][name], found["step"][name] = outcome.value
    return [
        rows.of_values(
            "memory",
            "MiB",
            values,
            case=f"{backbone}, {what} on {count} fake device(s)",
            size=options.memory_size,
            devices=count,
            batch_size=options.memory_batch,
        )
        for what, values in found.items()
    ]


def _arguments(options: Options, backbone: str, fields: Mapping[str, Any]) -> tuple:
    size, batch_size = options.memory_size, options.memory_batch
    return backbone, size, batch_size, options.train_config, fields


def step(
    backbone: str, size: int, batch_size: int, config: Any, fields: Mapping[str, Any]
) -> peers.Work:
    """A training step on a batch that lies on the devices; returns its temporary memory in MiB."""
    phase, state, batch, parallel = train.prepared(
        backbone, size, batch_size, config, fields=fields
    )
    sent = parallel.put(batch)
    compiled: Any = phase.step  # by `jax.jit`
    program = compiled.lower(state, sent).compile()
    temporary = program.memory_analysis().temp_size_in_bytes / 2**20

    def work() -> float:
        nonlocal state
        state, measured = program(state, sent)
        float(measured["loss"])
        return temporary

    return peers.warm(work)


def on_first_device(
    backbone: str, size: int, batch_size: int, config: Any, fields: Mapping[str, Any]
) -> tuple[float, float]:
    """Returns the MiB of the state, and of what a step takes beside it, on the first device."""
    import jax

    phase, state, batch, parallel = train.prepared(
        backbone, size, batch_size, config, fields=fields
    )
    lies = [shard for leaf in jax.tree.leaves(state) for shard in leaf.addressable_shards]
    held = sum(shard.data.nbytes for shard in lies if shard.device == jax.devices()[0])
    compiled: Any = phase.step  # by `jax.jit`
    program = compiled.lower(state, parallel.put(batch)).compile()
    return held / 2**20, program.memory_analysis().temp_size_in_bytes / 2**20
