"""The only file that knows about devices: a function mapped over them, a batch divided."""

import collections
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Shaped

from tl.errors import UserError, nearest

F = TypeVar("F", bound=Callable[..., Any])

MAPPERS = ("pmap", "jit")
MOST_CPU_DEVICES = 16  # each holds the weights


def divide_cpu() -> None:
    """Makes a device of each core of a CPU; to be called before JAX is used.

    Extraction gains: on its own device a core waits for no other between two operations (ResNet-50
    at 224 px, two cores: 1.16 times as fast). Training loses, whose gradients and statistics the
    devices would exchange (0.8 times), and takes one device of them (`DataParallel.over`). Does
    nothing where the number of CPU devices has been set already.
    """
    if jax.config.values["jax_num_cpu_devices"] < 1 and "device_count" not in os.environ.get(
        "XLA_FLAGS", ""
    ):
        jax.config.update("jax_num_cpu_devices", min(os.cpu_count() or 1, MOST_CPU_DEVICES))


def platform() -> str:
    """Returns what this process computes on, as JAX calls it: `cpu`, `gpu` or `tpu`."""
    return jax.local_devices()[0].platform


def is_cpu() -> bool:
    """Returns whether this process computes on a CPU."""
    return platform() == "cpu"


def in_full_precision(function: F) -> F:
    """Returns a function whose float32 products, as JAX traces it, are of float32 everywhere.

    By default they are of tfloat32 on a GPU, which is right to 1e-3, and of bfloat16 on a TPU. That
    is good for a step of training, not for a number that is reported: extraction, evaluation and
    what they are compared with take float32.
    """

    @functools.wraps(function)
    def precise(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return cast(F, precise)


@dataclasses.dataclass(frozen=True)
class Mapped:
    """A compiled function of (variables, images) whose variables lie on every device already.

    Attributes:
      device_count: devices that share a batch; its size must be a multiple of this.
    """

    device_count: int
    _compiled: Callable[[Any, jax.Array], Any]
    _variables: Any
    _sharding: NamedSharding
    _leading: tuple[int, ...]

    def __call__(self, images: np.ndarray) -> Any:
        """Sends a batch and starts the computation; waits for neither.

        Args:
          images: `[B, ...]`, B a multiple of `device_count`.

        Returns:
          The function's pytree, still on the devices; `fetch` brings it back.

        Raises:
          ValueError: B is no multiple of `device_count`.
        """
        if len(images) % self.device_count:
            raise ValueError(
                f"expected a batch of a multiple of {self.device_count} images, one part for each "
                f"device, got {len(images)}"
            )
        images = images.reshape(*self._leading, *images.shape[1:])
        outputs = self._compiled(self._variables, jax.device_put(images, self._sharding))
        for array in jax.tree.leaves(outputs):
            array.copy_to_host_async()
        return outputs

    def fetch(self, outputs: Any) -> Any:
        """Waits for the result of a call and returns it as NumPy arrays `[B, ...]`."""
        # pmap's results are [devices, B / devices, ...].
        return jax.tree.map(
            lambda x: np.asarray(x).reshape(-1, *x.shape[len(self._leading) :]), outputs
        )


def map_over_devices(
    function: Callable[[Any, jax.Array], Any],
    variables: Any,
    how: str = "pmap",
    devices: Sequence[jax.Device] | None = None,
) -> Mapped:
    """Compiles a function of a batch for several devices, each of which computes its share.

    Args:
      function: pure, (variables, images `[b, ...]`) -> pytree of arrays `[b, ...]`, each row of
        which depends on its own image alone. Passing the same object again compiles nothing anew.
      variables: pytree of arrays, placed on every device once, here.
      how: `pmap` runs the function on each device's share; `jit` compiles it for the whole batch,
        sharded along the first axis. The results are the same.
      devices: default all devices of this process.

    Raises:
      UserError: no such `how`.
    """
    if how not in MAPPERS:
        raise UserError(f"there is no {how!r}{nearest(how, MAPPERS)}", field="extract.mapper")
    devices = tuple(devices or jax.local_devices())
    mesh = Mesh(np.array(devices), ("data",))
    if how == "pmap":
        compiled = jax.pmap(function, in_axes=(None, 0), devices=devices)
        leading: tuple[int, ...] = (len(devices), -1)
    else:
        compiled, leading = jax.jit(function), (-1,)
    # pmap takes variables as they lie only where they are replicated over the mesh beforehand;
    # host arrays would cross the bus again in every call.
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return Mapped(len(devices), compiled, variables, sharding, leading)


def prefetch(iterator: Iterable[Any], put: Callable[[Any], Any], size: int = 2) -> Iterator[Any]:
    """Yields `put(item)` in order, having called `put` for the next `size` items already.

    With a `put` that only starts work (a transfer, a computation), the devices stay busy while the
    consumer works on the result.

    >>> list(prefetch("abc", str.upper))
    ['A', 'B', 'C']
    """
    waiting: collections.deque[Any] = collections.deque()
    for item in iterator:
        waiting.append(put(item))
        if len(waiting) > size:
            yield waiting.popleft()
    yield from waiting


@dataclasses.dataclass(frozen=True)
class DataParallel:
    """All devices of all processes, among which every batch is divided; state lies on each.

    Sharded `jit` compiles a function for the whole batch, so that its sums, gradients and batch
    statistics are those of one device, whatever their number.
    """

    mesh: Mesh

    @classmethod
    def over(
        cls, devices: Sequence[jax.Device] | None = None, *, local: bool = False
    ) -> "DataParallel":
        """Returns it for some devices.

        Args:
          devices: default all, of a divided CPU one a process.
          local: of the default only those of this process.
        """
        if not devices:
            processes = [jax.process_index()] if local else range(jax.process_count())
            # Each process's part of a batch lies together, as `tl.data.loader` divides it.
            of_each = [jax.local_devices(process_index=i) for i in processes]
            if is_cpu() and jax.config.values["jax_num_cpu_devices"] > 0:
                of_each = [of_process[:1] for of_process in of_each]
            devices = [device for of_process in of_each for device in of_process]
        return cls(Mesh(np.array(devices), ("data",)))

    @property
    def device_count(self) -> int:
        """How many devices share a batch; its size must be a multiple of this."""
        return self.mesh.size

    @property
    def replicated(self) -> NamedSharding:
        """Whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def replicate(self, tree: Any) -> Any:
        """Returns a pytree of arrays as arrays that lie whole on every device."""
        return jax.device_put(tree, self.replicated)

    def put(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Starts sending this process's examples of a batch, divided along the first axis.

        Args:
          batch: has image, label and mask; anything else stays behind.
        """
        return {name: self.divide(batch[name]) for name in ("image", "label", "mask")}

    def divide(self, rows: Shaped[np.ndarray, "n ..."]) -> jax.Array:
        """Starts sending this process's rows, as many for each of its devices."""
        return jax.make_array_from_process_local_data(self.divided, rows)

    @property
    def divided(self) -> NamedSharding:
        """Divided along the first axis."""
        return NamedSharding(self.mesh, PartitionSpec("data"))

    def compile(self, function: Callable[[Any, Any], Any], *, donate: bool = False) -> Callable:
        """Returns a compiled function of (state, batch) whose results lie whole on every device.

        Args:
          function: pure, of a state (`replicate`) and a batch (`put`).
          donate: the result may take the state's memory; the state must not be used again.
        """
        return jax.jit(
            function,
            in_shardings=(self.replicated, self.divided),
            out_shardings=self.replicated,
            donate_argnums=(0,) if donate else (),
        )

    def check_batch_size(self, batch_size: int, parts: int = 1) -> None:
        """Raises UserError unless each device gets as many examples of each part of a batch."""
        unit = self.device_count * parts
        if batch_size % unit:
            near = max(unit, round(batch_size / unit) * unit)
            raise UserError(
                f"expected a multiple of {unit}, for {self.device_count} device(s)"
                + (f" and {parts} parts (`train.accumulate`)" if parts > 1 else "")
                + f", got {batch_size}; {near} is near",
                field="train.batch_size",
            )
