"""Rows of a problem divided over devices, filled and summed over by chunk.

Every device has the same number of rows, the last of which are padding. The host holds some
chunks of them at a time, and what a computation makes of a row, such as its logits, is there for
one chunk of a device at a time.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from tl.devices import DataParallel, is_cpu
from tl.probes.rows import CHUNK_ELEMENTS

# Fewer numbers are not worth the devices' talk: they lie on one.
_FEW = 1 << 23
# Of a chunk on a device: features, or what is made of them. A CPU's fits its cache: an evaluation
# of logistic regression at 49,152 x 2,048 takes 112 ms by 768 rows, 135 by 1,536, 227 by 24,576.
_CHUNK_ELEMENTS, _CPU_CHUNK_ELEMENTS = 1 << 23, 1 << 20
_LEAST_ROWS = 256  # of a chunk, however wide

_ROWS, _WHOLE = PartitionSpec("data"), PartitionSpec()


@dataclass(frozen=True)
class DeviceRows:
    """Rows divided over devices.

    Attributes:
      features: float32 [P, R], P >= N, padded with zeros.
      labels: int32 [P]; -1 for padding.
      mesh: the devices.
      chunk: rows of a device that are looked at together; divides P / devices.
    """

    features: Float[Array, "p r"]
    labels: Int[Array, " p"]
    mesh: Mesh
    chunk: int

    @classmethod
    def place(
        cls,
        read: Callable[[slice], Float[np.ndarray, "m _"]],
        labels: Int[np.ndarray, " n"],
        width: int,
        products: int,
        *,
        local: bool = False,
    ) -> "DeviceRows":
        """Reads rows onto the devices of all processes; few go to one device of each process.

        Args:
          read: rows -> features float32 [m, R or fewer]; the rest of R is zeros.
          labels: int [N], of all rows.
          width: R.
          products: how many numbers a computation makes of a row; it bounds the chunks too.
          local: on the devices of this process only.
        """
        n = len(labels)
        few = n * max(width, products) <= _FEW
        parallel = DataParallel.over(jax.local_devices()[:1] if few else None, local=local)
        devices = parallel.mesh.devices.ravel().tolist()
        each = -(-n // len(devices))
        most = _CPU_CHUNK_ELEMENTS if is_cpu() else _CHUNK_ELEMENTS
        # Some chunks together are read and sent at once.
        sent = -(-each * width // CHUNK_ELEMENTS)
        chunks = -(-min(each * max(width, products) // most + 1, -(-each // _LEAST_ROWS)) // sent)
        chunk = -(-each // (sent * chunks) // 16) * 16 if sent * chunks > 1 else bucket(each)
        step = chunks * chunk
        each = sent * step
        mine = [
            i for i, device in enumerate(devices) if device.process_index == jax.process_index()
        ]

        def of_chunk(start: int) -> np.ndarray:
            found = np.zeros((len(mine), step, width), np.float32)
            for part, number in zip(found, mine):
                first = number * each + start
                if count := min(first + step, n) - min(first, n):
                    values = read(slice(first, first + count))
                    part[:count, : values.shape[1]] = values
            return found.reshape(-1, width)

        if sent == 1:
            features = parallel.divide(of_chunk(0))
        else:
            zeros = jax.jit(jnp.zeros, static_argnums=0, out_shardings=parallel.divided)
            features = zeros((len(devices) * each, width))
            for start in range(0, each, step):
                values = parallel.divide(of_chunk(start))
                features = _filled(features, values, np.int32(start), mesh=parallel.mesh)
        padded = np.full((len(devices), each), -1, np.int32)
        padded.ravel()[:n] = labels
        return cls(features, parallel.divide(padded[mine].ravel()), parallel.mesh, chunk)


@functools.partial(jax.jit, static_argnames="mesh", donate_argnums=0)
def _filled(
    features: Float[Array, "p r"], values: Float[Array, "m r"], start: Int[Array, ""], *, mesh: Mesh
) -> Float[Array, "p r"]:
    """Returns the features with the values in their place, from row `start` of each device on."""

    def of_device(features: Array, values: Array, start: Array) -> Array:
        return jax.lax.dynamic_update_slice(features, values, (start, jnp.int32(0)))

    return jax.shard_map(of_device, mesh=mesh, in_specs=(_ROWS, _ROWS, _WHOLE), out_specs=_ROWS)(
        features, values, start
    )


def bucket(size: int) -> int:
    """The padded size: 256, 640, 1024 or a multiple of 128: few, so that compiling stays small."""
    return next((small for small in (256, 640, 1024) if size <= small), -(-size // 128) * 128)


def summed(function: Callable[..., Any], mesh: Mesh, chunk: int) -> Callable[..., Any]:
    """Returns a function of all rows that sums what `function` gives of each chunk.

    Args:
      function: (features [chunk, R], labels [chunk], *whole) -> pytree of arrays. Rows of label -1
        must add nothing.
      mesh, chunk: of the rows.

    Returns:
      (features [P, R], labels [P], *whole) -> the sums, whole on every device.
    """

    def of_device(features: Float[Array, "p r"], labels: Int[Array, " p"], *whole: Any) -> Any:
        chunks = features.reshape(-1, chunk, features.shape[1]), labels.reshape(-1, chunk)
        shapes = jax.eval_shape(function, chunks[0][0], chunks[1][0], *whole)

        def add(carry: tuple[Any, Any], rows: tuple[Array, Array]) -> tuple[Any, None]:
            sums, excess = carry
            terms = jax.tree.map(jnp.subtract, function(*rows, *whole), excess)
            total = jax.tree.map(jnp.add, sums, terms)
            excess = jax.tree.map(lambda t, s, x: (t - s) - x, total, sums, terms)
            return (total, excess), None

        # With Kahan's correction: rounding of thousands of chunks would stop the line search.
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        (sums, _), _ = jax.lax.scan(add, (zeros, zeros), chunks)
        return jax.lax.psum(sums, "data")

    def of_all(features: Float[Array, "p r"], labels: Int[Array, " p"], *whole: Any) -> Any:
        specs = (_ROWS, _ROWS, *(_WHOLE for _ in whole))
        mapped = jax.shard_map(
            of_device, mesh=mesh, in_specs=specs, out_specs=_WHOLE, check_vma=False
        )
        return mapped(features, labels, *whole)

    return of_all
