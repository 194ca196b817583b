"""Prints the table of `tl/weights/costs.py`: python -m tests.make_costs"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

from experiments.benchmark.native import plain_layers, pooled
from tl.models import registry
from tl.weights import catalog, costs


def count(row: str, size: int) -> tuple[int, float]:
    """Returns (parameters, billions of multiply-adds for one image) of a network without a head."""
    backbone, _, stride_in = row.partition("/")
    contract = registry.get(backbone)
    arguments: dict[str, Any] = {"stride_in": stride_in} if stride_in else {}
    if "grid" in contract.arguments:
        arguments["grid"] = size // contract.multiple
    model = registry.build(backbone, num_classes=0, **arguments)
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


def rows(chosen: Sequence[str] = ()) -> Iterator[str]:
    """Yields a line for each network of the catalogue, or for some."""
    specs = [catalog.get(name) for name in catalog.names()]
    sizes: dict[str, set[int]] = {}
    for spec in sorted(specs, key=lambda spec: registry.names().index(spec.backbone)):
        sizes.setdefault(costs.row_of(spec), set()).add(spec.preprocessing.size)
    for row in chosen or sizes:
        counts = {size: count(row, size) for size in sorted(sizes[row])}
        yield " ".join([row, *(f"{size}:{n}/{adds:.2f}" for size, (n, adds) in counts.items())])


if __name__ == "__main__":
    print("\n".join(rows()))
