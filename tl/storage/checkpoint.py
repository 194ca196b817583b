"""Checkpoints by Orbax: a training state, the position in the data, and JSON about them."""

import contextlib
import copy
import errno
import hashlib
import json
import logging
import math
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from tl import hosts, paths, tree
from tl.errors import UserError
from tl.storage.mirror import Mirror

_JSON = ("position", "metadata")
_DIGEST = "digest"
_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE)


class Damaged(UserError):
    """A checkpoint cannot be read, or holds something else than was saved."""

    @property
    def brief(self) -> str:
        """The text without what to do."""
        return str(self).partition("; delete ")[0]


class Checkpoints:
    """The checkpoints of one run: the latest ones, and the best for as long as it is the best.

    A context manager, whose end waits for what is still being written. Each process of a run of
    several makes its own, and calls the same methods in the same order.
    """

    def __init__(self, directory: str | Path, *, max_to_keep: int, metric: str):
        """Opens a directory, made where there is none; what a killed save has left is deleted.

        Args:
          directory: of this run's checkpoints alone; of this machine or of an object store.
          max_to_keep: latest checkpoints to keep, at least 1.
          metric: the entry of `metrics` in `save` by which a checkpoint is the best: the highest
            value, the latest of equal ones, NaN below all.

        Raises:
          UserError: the directory cannot be written, or a checkpoint in it is damaged.
        """
        if max_to_keep < 1:
            raise UserError(
                f"expected at least 1 checkpoint to keep, got {max_to_keep}",
                field="train.max_to_keep",
            )
        self._directory = paths.as_path(directory).absolute()
        # Each process has a folder of its own in its place, and the first one writes for all.
        self._mirror = _mirror(self._directory, "saved")
        self._apart = self._mirror is not None and hosts.process_share()[1] > 1
        self._sending: threading.Thread | None = None
        self._failed: list[Exception] = []
        self._metric = metric
        best = policies.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=_rank,
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(max_to_keep), best]
            ),
            cleanup_tmp_directories=True,
            create=False,  # it is there by then
            # Made in the background, a directory that cannot be made leaves threads which wait for
            # it for 20 minutes, and keep the process from ending.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
            **({"multiprocessing_options": _alone()} if self._apart else {}),
        )
        with _writing(self._directory):
            if not self._mirror:
                self._directory.mkdir(parents=True, exist_ok=True)
                self._manager = _open(self._directory, options)
                return
            if hosts.is_first():
                self._mirror.clear()
            self._mirror.fetch()
            with self._mirror.named():
                self._manager = _open(self._mirror.folder, options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(UserError):  # it would hide what went wrong in the block
            self._close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint; None where there is none."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """Steps of all checkpoints, the newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    @property
    def best_step(self) -> int | None:
        """Step of the best checkpoint; None where none was saved with metrics."""
        return self._manager.best_step()

    def save(
        self,
        step: int,
        state: Any,
        position: Mapping[str, Any],
        metadata: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts to write a checkpoint; waits for the one before, not for this one.

        The state may be donated or deleted as soon as this returns: Orbax has it on the host by
        then, and what it still looks at on a CPU JAX does not overwrite.

        Args:
          step: updates done; a step is saved once.
          state: pytree of arrays; None leaves stay None.
          position: of the data iterator, JSON values.
          metadata: JSON values.
          metrics: of this state; None where it was not evaluated.

        Raises:
          UserError: this checkpoint, or the one before, cannot be written.
        """
        rank = None if metrics is None else {"value": float(metrics[self._metric]), "step": step}
        state = jax.tree.map(_whole if self._apart else _one_copy, state)
        if self._apart and not hosts.is_first():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            # A thread writes these later on, when the iterator may have changed its own.
            position=ocp.args.JsonSave(copy.deepcopy(position)),
            metadata=ocp.args.JsonSave(copy.deepcopy(metadata)),
            digest=ocp.args.JsonSave(_digests(state=state, position=position, metadata=metadata)),
        )
        self.wait()
        with _writing(self._directory):
            self._manager.save(step, args=items, metrics=rank, force=True)
        if self._mirror:
            self._sending = threading.Thread(target=self._send, args=(self._mirror,))
            self._sending.start()

    def restore(self, step: int, expected_state: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Returns (state, position, metadata) as saved, and nothing else than was expected.

        Args:
          step: of a checkpoint.
          expected_state: pytree of the saved shapes and types, as arrays or as
            `jax.ShapeDtypeStruct` with a sharding: how the restored state is to lie, on whatever
            devices it was saved.

        Raises:
          UserError: no such checkpoint, it is damaged, or its state is another; the text lists the
            leaves that differ.
        """
        self.wait()
        with self._mirror.named() if self._mirror else contextlib.nullcontext():
            return self._restore(step, expected_state)

    def _restore(
        self, step: int, expected_state: Any
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        expected_state = jax.tree.map(_abstract, expected_state)
        found = _state_metadata(self._manager, step)
        if lines := tree.differences(expected_state, found):
            raise UserError(
                f"the checkpoint of step {step} in {self._directory} is of another run: its state "
                "differs from what the config asks for; give the config it was made with, or "
                "another --workdir:\n  " + "\n  ".join(lines)
            )
        items = _restore(
            self._manager,
            step,
            state=ocp.args.StandardRestore(expected_state),
            **{name: ocp.args.JsonRestore() for name in _JSON},
        )
        return items["state"], items["position"], items["metadata"]

    def set_aside(self, step: int) -> None:
        """Gives a damaged checkpoint the name `damaged-<step>`, under which none is looked for.

        That of an object store is removed.
        """
        folder = Path(self._manager.directory)
        with _writing(self._directory):
            if self._mirror or hosts.is_first():
                aside = folder / f"damaged-{step}"
                shutil.rmtree(aside, ignore_errors=True)
                (folder / str(step)).rename(aside)
            hosts.barrier("set aside")
            self._manager.reload()
            if self._mirror and hosts.is_first():
                self._mirror.publish(self._manager.all_steps())

    def wait(self) -> None:
        """Waits for the save that is under way, if any.

        Raises:
          UserError: it cannot be written.
        """
        with _writing(self._directory):
            if self._sending:
                self._sending.join()
                self._sending = None
            if self._failed:
                raise self._failed.pop()
            self._manager.wait_until_finished()

    def _send(self, mirror: Mirror) -> None:
        try:
            self._manager.wait_until_finished()
            mirror.publish(self._manager.all_steps())
        except Exception as error:  # is raised by `wait`
            self._failed.append(error)

    def close(self) -> None:
        """Waits, then frees what Orbax holds; raises as `wait` does."""
        self._close()
        if self._apart:
            hosts.barrier("checkpoints")  # what the first process has sent can be read

    def _close(self) -> None:
        try:
            self.wait()
            with _writing(self._directory):
                self._manager.close()
        finally:
            if self._mirror:
                self._mirror.close()


def read(directory: str | Path, step: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (state, metadata) of a checkpoint, whatever devices it was saved on.

    Args:
      directory: of checkpoints.
      step: default the best one's, or the latest's where none has metrics.

    Returns:
      The state as NumPy arrays in dictionaries, and lists for tuples; and the JSON metadata.

    Raises:
      UserError: no such checkpoint, or it is damaged.
    """
    directory = paths.as_path(directory).absolute()
    if mirror := _mirror(directory, "read"):
        try:
            mirror.fetch()
            with mirror.named():
                return read(mirror.folder, step)
        finally:
            mirror.close()
    options = ocp.CheckpointManagerOptions(
        best_fn=_rank, read_only=True, save_interval_steps=0, create=False
    )
    with contextlib.closing(_open(directory, options)) as manager:
        steps = (step, manager.best_step(), manager.latest_step())
        chosen = _existing(manager, next((s for s in steps if s is not None), None))
        # Orbax gives back what it is shown: NumPy for NumPy. These views take no memory.
        expected = jax.tree.map(
            lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape),
            _state_metadata(manager, chosen),
        )
        items = _restore(
            manager,
            chosen,
            state=ocp.args.StandardRestore(expected),
            metadata=ocp.args.JsonRestore(),
        )
    return items["state"], items["metadata"]


def _mirror(directory: Path, purpose: str) -> Mirror | None:
    if not paths.is_remote(directory):
        return None
    return Mirror(directory, f"{purpose} by process {hosts.process_share()[0]}")


def _open(directory: Path, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
    logging.getLogger("absl").addFilter(_not_of_orbax)
    for path in directory.glob("*/metrics/metrics"):  # Orbax reads them all, and names none
        if path.parts[-3].isdigit():
            with _reading(directory, path.parts[-3]):
                _rank(json.loads(path.read_text()))
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    state = ocp.StandardCheckpointHandler()
    registry.add("state", ocp.args.StandardSave, state)
    registry.add("state", ocp.args.StandardRestore, state)
    for name in (*_JSON, _DIGEST):
        handler = ocp.JsonCheckpointHandler()
        registry.add(name, ocp.args.JsonSave, handler)
        registry.add(name, ocp.args.JsonRestore, handler)
    return ocp.CheckpointManager(directory, options=options, handler_registry=registry)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    # It narrates, warns of what is meant, and logs the traceback of what it raises anyway.
    return "orbax" not in Path(record.pathname).parts


def _rank(metrics: Mapping[str, float]) -> tuple[float, float]:
    value = metrics["value"]
    return (-math.inf if math.isnan(value) else value, metrics["step"])


def _state_metadata(manager: ocp.CheckpointManager, step: int) -> Any:
    """Returns shapes and types of a saved state, in the tree of dictionaries and lists."""
    _existing(manager, step)
    with _reading(manager.directory, step):
        found = manager.item_metadata(step)["state"]
        if found is None:
            raise FileNotFoundError("state/_METADATA is not there")
        return found.tree


def _restore(manager: ocp.CheckpointManager, step: int, **items: Any) -> Mapping[str, Any]:
    """Returns what was saved; a checkpoint without digests is older than these."""
    _existing(manager, step)
    with _reading(manager.directory, step):
        if (Path(manager.directory) / str(step) / _DIGEST).is_dir():
            items[_DIGEST] = ocp.args.JsonRestore()
        found = {**manager.restore(step, args=ocp.args.Composite(**items))}
        saved = found.pop(_DIGEST, {})
        for name, digest in _digests(**found).items():
            if digest and (before := saved.get(name)) and before != digest:
                raise ValueError(f"its {name} is not what was saved")
        return found


def _digests(**items: Any) -> dict[str, str]:
    """Returns the SHA-256 of each item of a checkpoint; '' for a state that other hosts hold too.

    That of a state is over its leaves in any order: they are named as optax does or by numbers.
    """
    return {name: _of_json(i) if name in _JSON else _of_state(i) for name, i in items.items()}


def _of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _of_state(state: Any) -> str:
    leaves = jax.tree.leaves(state)
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    if not all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in arrays):
        return ""
    return hashlib.sha256("".join(sorted(map(tree.digest, leaves))).encode()).hexdigest()


def _existing(manager: ocp.CheckpointManager, step: int | None) -> int:
    """Returns a step that has a checkpoint, or raises `UserError`."""
    if step is None or step not in manager.all_steps():
        steps = ", ".join(map(str, manager.all_steps())) or "none"
        wanted = "a checkpoint" if step is None else f"a checkpoint of step {step}"
        raise UserError(f"expected {wanted} in {manager.directory}; there are: {steps}")
    return step


def _one_copy(leaf: Any) -> Any:
    """Returns an array of one device in the place of one that every device of this host holds.

    Orbax would cut each array into a part for each device, which takes seconds for a network.
    """
    if isinstance(leaf, jax.Array) and leaf.is_fully_addressable and leaf.is_fully_replicated:
        return leaf.addressable_data(0)
    return leaf


def _whole(leaf: Any) -> Any:
    """Returns an array of this host in the place of one that all processes hold together."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_replicated:
        return multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf.addressable_data(0)) if isinstance(leaf, jax.Array) else leaf


def _alone() -> ocp.options.MultiprocessingOptions:
    """Returns Orbax's options for a process that works in a folder of its own."""
    number = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=number,
        active_processes={number},
        barrier_sync_key_prefix=f"process{number}",
    )


def _abstract(leaf: Any) -> Any:
    """Returns an array without its values, which need not cross the bus to be compared."""
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return leaf


@contextlib.contextmanager
def _reading(directory: Any, step: int | str) -> Iterator[None]:
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError):  # of this machine, not of the files
        raise
    except Exception as error:  # Orbax, TensorStore and JSON each raise their own
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        raise Damaged(
            f"the checkpoint of step {step} in {directory} is damaged ({_brief(error)}); delete "
            f"{Path(directory) / str(step)} to go on from the one before, where there is one"
        ) from error


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, OSError | ValueError) and not paths.remote_error(error):
            raise
        raise UserError(
            f"cannot write a checkpoint to {directory}: {_brief(error)}. Check the disk's space "
            "and the directory's permissions"
        ) from error


def _brief(error: Exception) -> str:
    text = str(error).split(" [tensorstore_spec=")[0].strip() or type(error).__name__
    return text.splitlines()[0]
