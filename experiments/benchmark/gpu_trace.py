"""The device operations of a program that take the most time, read from a trace of JAX's profiler.

A trace has a plane for each GPU; each of its stream lines holds the kernels that ran, one after the
other, by name.
"""

import collections
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tabulate import tabulate

CALLS = 5
OPERATIONS = 10


def measure(backbone: str, size: int, dtype: str, batch_size: int) -> list[dict[str, Any]]:
    """Returns the operations of extraction's features, as `operations` does."""
    from experiments.benchmark import gpu_ours

    lowered, arguments = gpu_ours.lower_features(backbone, size, (dtype, batch_size))
    program = lowered.compile()
    return operations(lambda: program(*arguments))


def measure_step(
    backbone: str, size: int, dtype: str, batch_size: int, config: Any
) -> list[dict[str, Any]]:
    """Returns the operations of a training step, as `operations` does."""
    from experiments.benchmark import gpu_ours

    lowered, (state, batch) = gpu_ours.lower_step(backbone, size, (dtype, batch_size), config)
    program = lowered.compile()

    def step() -> Any:
        nonlocal state
        state, measured = program(state, batch)
        return measured

    return operations(step)


def operations(call: Callable[[], Any]) -> list[dict[str, Any]]:
    """Returns the device operations of a call, those that take the most time first.

    Args:
      call: compiled already.

    Returns:
      Of each kernel `name`, `milliseconds` and `count` in one call, and its `share` of all
      kernels' time; empty where the trace has no device, as on a CPU.
    """
    import jax

    jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(CALLS):
                result = call()
            jax.block_until_ready(result)
        (file,) = Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(file))
        return largest(
            (event.name, event.duration_ns)
            for plane in profile.planes
            if plane.name.startswith("/device:")
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        )


def largest(events: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    """Returns names with their time, see `operations`, of (name, nanoseconds) of `CALLS` calls.

    >>> largest([("a", 5e6), ("b", 2e7), ("a", 5e6)])[0]
    {'name': 'b', 'milliseconds': 4.0, 'count': 0.2, 'share': 0.6666666666666666}
    """
    times, counts = collections.Counter[str](), collections.Counter[str]()
    for name, nanoseconds in events:
        times[name] += int(nanoseconds)
        counts[name] += 1
    return [
        {
            "name": name,
            "milliseconds": time / 1e6 / CALLS,
            "count": counts[name] / CALLS,
            "share": time / times.total(),
        }
        for name, time in times.most_common()
    ]


def table(found: list[dict[str, Any]]) -> str:
    """Returns the largest operations for a person."""
    return tabulate(
        [
            [o["name"][:80], f"{o['milliseconds']:.3f}", f"{o['count']:g}", f"{o['share']:.1%}"]
            for o in found[:OPERATIONS]
        ],
        headers=["operation", "ms", "times", "of all"],
        disable_numparse=True,
    )
