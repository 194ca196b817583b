"""What the GPU section measures of ours: features and training steps, images on the device."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

from experiments.benchmark.timing import Setting, Timing, first_line, sweep

Work = Callable[[], dict[Setting, Timing]]


@contextlib.contextmanager
def precision_of_platform() -> Iterator[None]:
    """Within it, float32 products are traced as the platform likes them: tfloat32 on a GPU."""
    import jax

    def nothing(precision: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    with mock.patch.object(jax, "default_matmul_precision", nothing):
        yield


def lower_features(backbone: str, size: int, setting: Setting) -> tuple[Any, tuple[Any, Any]]:
    """Returns the program of extraction's features, not yet compiled, and its arguments' values.

    Args:
      backbone: see `tl.models.registry`.
      size: of the images, pixels.
      setting: the type may also be `tfloat32`.
    """
    import jax
    import jax.numpy as jnp

    from experiments.benchmark.synthetic import random_images
    from tl import devices
    from tl.data.transforms import host_and_device
    from tl.features.network import Extraction, computing_function

    dtype, batch_size = setting
    network = _network(backbone, size)
    preprocessing = network.spec.preprocessing
    extraction = Extraction(("pooled",), dtype="float32" if dtype == "tfloat32" else dtype)
    prepare = host_and_device(None, preprocessing)[1]
    function, variables = computing_function(
        network, preprocessing, extraction, prepare, devices.platform()
    )
    arguments = jax.device_put(variables), jnp.asarray(random_images(batch_size, size))
    with precision_of_platform() if dtype == "tfloat32" else contextlib.nullcontext():
        # A new function, as JAX keeps what it has traced of an old one.
        return jax.jit(functools.partial(function)).lower(*arguments), arguments


@functools.cache
def _network(backbone: str, size: int) -> Any:
    from experiments.benchmark.synthetic import random_network

    return random_network(backbone, size)


def features(backbone: str, size: int, settings: Sequence[Setting], seconds: float) -> Work:
    """Features of uint8 images that lie on the device; the result stays there."""
    import jax

    lowered = {setting: lower_features(backbone, size, setting) for setting in settings}
    programs, timings = compile_all({name: program for name, (program, _) in lowered.items()})

    def call(setting: Setting) -> Any:
        return programs[setting](*lowered[setting][1])

    calls = {setting: functools.partial(call, setting) for setting in programs}
    return sweep(calls, timings, jax.block_until_ready, seconds)


def lower_step(
    backbone: str, size: int, setting: Setting, config: Any
) -> tuple[Any, tuple[Any, Any]]:
    """Returns the program of a training step, not yet compiled, its state and a batch.

    Args:
      backbone, size, setting: as for `lower_features`.
      config: `configs/common.py`.
    """
    from experiments.benchmark import train

    dtype, batch_size = setting
    dtype = "float32" if dtype == "tfloat32" else dtype  # products are tfloat32 by default
    phase, state, batch, parallel = train.prepared(backbone, size, batch_size, config, dtype)
    arguments = state, parallel.put(batch)
    step: Any = phase.step  # compiled by `jax.jit`
    return step.lower(*arguments), arguments


def training(
    backbone: str, size: int, settings: Sequence[Setting], seconds: float, config: Any
) -> Work:
    """Training steps one after the other on a batch of uint8 images that lies on the device."""
    import jax

    lowered = {setting: lower_step(backbone, size, setting, config) for setting in settings}
    programs, timings = compile_all({name: program for name, (program, _) in lowered.items()})
    states = {setting: arguments[0] for setting, (_, arguments) in lowered.items()}

    def call(setting: Setting) -> Any:
        batch = lowered[setting][1][1]
        states[setting], measured = programs[setting](states[setting], batch)
        return measured["loss"]

    calls = {setting: functools.partial(call, setting) for setting in programs}
    return sweep(calls, timings, jax.block_until_ready, seconds)


def compile_all(lowered: dict[Setting, Any]) -> tuple[dict[Setting, Any], dict[Setting, Timing]]:
    """Returns the programs that compile, and of all settings the memory or the error."""

    def compiled(setting: Setting) -> Any:
        try:
            return lowered[setting].compile()
        except Exception as error:
            return first_line(error)

    # One after the other: XLA tries kernels on the device, one program at a time.
    found = {setting: compiled(setting) for setting in lowered}
    timings = {
        setting: Timing(error=program)
        if isinstance(program, str)
        else Timing(peak_mib=_memory(program))
        for setting, program in found.items()
    }
    return {s: program for s, program in found.items() if not timings[s].error}, timings


def _memory(program: Any) -> float:
    sizes = program.memory_analysis()
    parts = (
        sizes.argument_size_in_bytes,
        sizes.output_size_in_bytes,
        sizes.temp_size_in_bytes,
        -sizes.alias_size_in_bytes,
    )
    return sum(parts) / 2**20
