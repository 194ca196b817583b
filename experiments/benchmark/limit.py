"""How fast this machine multiplies matrices: the limit that a network's rate is held against."""

import functools
from collections.abc import Callable
from typing import Any

from experiments.benchmark import contest

SIDE = 4096


def measure(side: int, *, rounds: int, seconds: float, log: contest.Log) -> dict[str, float]:
    """Returns floating-point operations a second of square matrix products, by type of factors.

    Args:
      side: of the matrices.
      rounds, seconds, log: see `experiments.benchmark.contest.run`.

    Returns:
      `float32` and `bfloat16` (products of these, summed in float32); one that failed is missing.
    """
    contestants = [
        contest.Contestant(dtype, product, (dtype, side)) for dtype in ("float32", "bfloat16")
    ]
    outcomes = contest.run(contestants, rounds=rounds, seconds=seconds, log=log)
    return {
        dtype: 2 * side**3 * outcome.median
        for dtype, outcome in outcomes.items()
        if not outcome.error
    }


def product(dtype: str, side: int) -> Callable[[], Any]:
    """Returns a function that multiplies two matrices of a type into a float32 one."""
    import jax
    import jax.numpy as jnp

    factor = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
    multiply = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.float32))

    def work() -> None:
        multiply(factor, factor).block_until_ready()

    work()
    return work
