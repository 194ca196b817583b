"""Prints the table of `tl/weights/costs.py`: python -m tests.make_costs"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

from experiments.benchmark.native import plain_layers, pooled
from tl.models import registry
from tl.weights import catalog


def count(backbone: str, size: int) -> tuple[int, float]:
    """Returns (parameters, billions of multiply-adds for one image) of a network without a head."""
    contract = registry.get(backbone)
    grid = {"grid": size // contract.multiple} if "grid" in contract.arguments else {}
    model = registry.build(backbone, num_classes=0, **grid)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    with plain_layers():
        program = jax.make_jaxpr(pooled, static_argnums=0)(model, variables, images)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return parameters, sum(map(_multiply_adds, _operations(program.jaxpr))) / 1e9


def _operations(program: Any) -> Iterator[Any]:
    for operation in program.eqns:
        yield operation
        for inner in jax.extend.core.jaxprs_in_params(operation.params):
            yield from _operations(inner)


def _multiply_adds(operation: Any) -> int:
    """Returns the products of a convolution or matrix product; 0 for anything else."""
    shapes = [variable.aval.shape for variable in (*operation.invars[:2], *operation.outvars)]
    match operation.primitive.name:
        case "conv_general_dilated":
            features = operation.params["dimension_numbers"].rhs_spec[0]
            kernel = math.prod(shapes[1]) // shapes[1][features]
            return math.prod(shapes[2]) * kernel
        case "dot_general":
            contracted = operation.params["dimension_numbers"][0][0]
            return math.prod(shapes[2]) * math.prod(shapes[0][axis] for axis in contracted)
    return 0


def rows(backbones: Sequence[str] = ()) -> Iterator[str]:
    """Yields a line for each network of the catalogue, or for some."""
    specs = [catalog.get(name) for name in catalog.names()]
    for backbone in backbones or registry.names():
        sizes = sorted({s.preprocessing.size for s in specs if s.backbone == backbone})
        counts = {size: count(backbone, size) for size in sizes}
        if counts:
            by_size = " ".join(f"{size}:{adds:.2f}" for size, (_, adds) in counts.items())
            yield f"{backbone} {counts[sizes[0]][0]} {by_size}"


if __name__ == "__main__":
    print("\n".join(rows()))
