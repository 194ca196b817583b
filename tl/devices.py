"""The only file that knows about devices: a function mapped over them, a batch divided."""

import collections
import dataclasses
import functools
import math
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
SHARDINGS = ("replicated", "fsdp")
MOST_CPU_DEVICES = 16  # each holds the weights
# On a CPU XLA takes `jax.checkpoint`'s barriers out before it orders the operations, and then
# computes activations again long before they are used: a step of ViT-S/16 (32 images of 224 px) had
# 4,914 MiB of temporary memory, 4,471 without `jax.checkpoint`; with the barriers kept it has 641.
_WITH_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


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


def axis_to_divide(shape: Sequence[int], count: int) -> int | None:
    """Returns the axis along which an array of a state is divided over devices.

    It is the largest axis that their number divides, of equal ones the first.

    Args:
      shape: of the array.
      count: of devices.

    Returns:
      None for an array that lies whole on each: if no axis can be divided, or it has fewer than two
      of them. Vectors are two thirds of ResNet-50's arrays and 0.2 % of its numbers, and to divide
      one would cost an exchange in every step.

    >>> axis_to_divide((3, 3, 64, 256), 8), axis_to_divide((7, 13), 8), axis_to_divide((256,), 8)
    (3, None, None)
    """
    axes = [axis for axis, length in enumerate(shape) if length and length % count == 0]
    if len(shape) < 2 or count == 1 or not axes:
        return None
    return max(axes, key=lambda axis: shape[axis])  # the first of equal ones


@dataclasses.dataclass(frozen=True)
class DataParallel:
    """All devices of all processes, among which every batch is divided, and the state too if asked.

    Sharded `jit` compiles a function for the whole batch, so that its sums, gradients and batch
    statistics are those of one device, whatever their number.

    Attributes:
      mesh: the devices.
      sharding: how a state lies on them: `replicated`, whole on each; or `fsdp`, each array divided
        by `axis_to_divide` (fully sharded data parallelism; Zhao et al. 2023, arXiv:2304.11277).
    """

    mesh: Mesh
    sharding: str = "replicated"

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

    def layout(self, state: Any) -> Any:
        """Returns how the arrays of a state lie: a pytree of shardings.

        Args:
          state: pytree of arrays, or of anything with a shape.
        """
        return jax.tree.map(self._sharding_of, state)

    def _sharding_of(self, leaf: Any) -> NamedSharding:
        axis = axis_to_divide(leaf.shape, self.device_count) if self.sharding == "fsdp" else None
        if axis is None:
            return self.replicated
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, "data"))

    def place(self, state: Any) -> Any:
        """Returns a pytree of arrays as arrays that lie as `layout` says.

        Args:
          state: the same in every process.
        """
        return jax.device_put(state, self.layout(state))

    def bytes_on_each(self, state: Any) -> int:
        """Returns the bytes that a state takes on each device.

        Args:
          state: pytree of arrays, or of anything with a shape and a dtype.
        """
        return sum(
            math.prod(self._sharding_of(leaf).shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(state)
        )

    def whole(self, state: Any) -> Any:
        """Returns the arrays of a state whole on every device, within a compiled function.

        Said outright, since XLA would rather divide what a layer gives by its features, and send
        activations to and fro. The gradient of an array is divided as the array is.
        """
        if self.sharding == "replicated":
            return state
        return jax.tree.map(
            lambda leaf: _gathered(leaf, self.replicated, self._sharding_of(leaf)), state
        )

    def compile(
        self,
        function: Callable[[Any, Any], Any],
        *,
        state: Any = None,
        donate: bool = False,
        remat: bool = False,
    ) -> Callable:
        """Returns a compiled function of (state, batch) whose results lie whole on every device.

        Args:
          function: pure, of a state (`place`) and a batch (`put`), which returns results; or, with
            `state`, of a state that may be divided, and it returns (new state, results).
          state: that is returned, or anything with its shapes; the new one lies as it does.
          donate: the result may take the state's memory; the state must not be used again.
          remat: whether the function has a gradient for which `jax.checkpoint` computes again.
        """
        results: Any = self.replicated
        if state is not None:
            results = (self.layout(state), results)
        divided = self.sharding != "replicated"
        on_cpu = self.mesh.devices.flat[0].platform == "cpu"
        return jax.jit(
            self._of_whole(function) if divided and state is None else function,
            in_shardings=(None if divided else self.replicated, self.divided),  # None: as it lies
            out_shardings=results,
            donate_argnums=(0,) if donate else (),
            compiler_options=_WITH_BARRIERS if remat and on_cpu else None,
        )

    def _of_whole(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        @functools.wraps(function)
        def called(state: Any, batch: Any) -> Any:
            return function(self.whole(state), batch)

        return called

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


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gathered(array: jax.Array, whole: NamedSharding, divided: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(array, whole)


def _gathered_forward(
    array: jax.Array, whole: NamedSharding, divided: NamedSharding
) -> tuple[jax.Array, None]:
    return _gathered(array, whole, divided), None


def _gathered_backward(
    whole: NamedSharding, divided: NamedSharding, saved: None, grad: jax.Array
) -> tuple[jax.Array]:
    return (jax.lax.with_sharding_constraint(grad, divided),)


_gathered.defvjp(_gathered_forward, _gathered_backward)
