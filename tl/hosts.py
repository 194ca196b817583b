"""Several processes that compute as one, each with the same command, as on the hosts of a cluster.

JAX's own service joins them, looks after them and ends all where one is gone; `tl.runs.supervisor`
says so in a sentence.
"""

import itertools
import math
import time
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float64, Shaped

from tl.errors import UserError

JOIN_SECONDS = 300  # for which the first to come waits for the last
# For which processes wait for each other, as at the end for one that has pages to write. JAX finds
# out long before if one is gone.
_LONGEST_SECONDS = 7 * 24 * 3600.0
_BLOCK = 1 << 20  # numbers that are summed over processes at a time
_barriers, _asked = itertools.count(), itertools.count()  # calls so far, equal in all processes
# What JAX, its collectives and Orbax say where another process does not answer.
_LOST = ("Gloo", "NCCL", "coordination service", "Connection closed", "UNAVAILABLE", "DEADLINE")


def join(
    coordinator: str,
    num_processes: int | None,
    process_id: int | None,
    heartbeat_seconds: int,
) -> None:
    """Joins the other processes of this run; to be called before JAX is used.

    Args:
      coordinator: HOST:PORT of process 0; '' for what JAX finds on a TPU pod, Slurm, Kubernetes or
        Open MPI.
      num_processes, process_id: with `coordinator`: how many there are, and which this one is.
      heartbeat_seconds: without a sign of life, after which a process counts as gone.

    Raises:
      UserError: there is no such cluster, or the others did not come.
    """
    try:
        jax.distributed.initialize(
            coordinator or None,
            num_processes,
            process_id,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=heartbeat_seconds,
            shutdown_timeout_seconds=int(_LONGEST_SECONDS),
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            "--multihost expected a cluster that JAX knows (a TPU pod, Slurm, Kubernetes, Open "
            "MPI), or --coordinator=HOST:PORT --num_processes=N --process_id=I, and the same "
            f"command on each of its hosts: {error}"
        ) from error


def process_share() -> tuple[int, int]:
    """Returns (number of this process, number of processes)."""
    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Returns whether this is process 0, which alone writes a run's files and speaks."""
    return jax.process_index() == 0


def share_of_process(items: Sequence[int]) -> list[int]:
    """Returns the numbers among `items` that fall to this process, by their remainder."""
    number, count = process_share()
    return [i for i in items if i % count == number]


def barrier(name: str) -> None:
    """Waits until every process has come here, however long that takes.

    JAX's own barrier is a computation, of which a CPU gives up after half an hour.

    Args:
      name: of the place; each process comes to the same places in the same order.
    """
    if jax.process_count() > 1 and not meet(f"{name} {next(_barriers)}", _LONGEST_SECONDS):
        raise RuntimeError(f"the other processes did not come to {name!r}")


def meet(name: str, seconds: float) -> bool:
    """Returns whether every process comes here in time; needs no device, and no equal past.

    Unlike `barrier` it is safe where some may still wait for the result of a computation that
    others have left.

    Args:
      name: used for no other meeting.
      seconds: to wait for the others.
    """
    if jax.process_count() == 1:
        return True
    from orbax import checkpoint as ocp  # takes a second to import

    try:
        ocp.multihost.get_barrier_sync_fn()(key=name, timeout_ms=int(1000 * seconds))
    except jax.errors.JaxRuntimeError:
        return False
    return True


def broadcast(number: int) -> int:
    """Returns the number that process 0 gives, whenever it has one."""
    if jax.process_count() == 1:
        return number
    barrier("broadcast")  # process 0 may take long to have a number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def gather(rows: Shaped[np.ndarray, "n ..."]) -> list[Shaped[np.ndarray, "_ ..."]]:
    """Returns the rows of each process, in every process.

    Args:
      rows: of one type and `shape[1:]` everywhere; their number may differ, and be 0.
    """
    if jax.process_count() == 1:
        return [rows]
    counts = multihost_utils.process_allgather(np.int32(len(rows)))
    padding = [(0, max(counts) - len(rows)), *[(0, 0)] * (rows.ndim - 1)]
    # As bytes, which JAX gives back as they are: it would make float32 of float64.
    sent = np.pad(rows, padding)
    received = multihost_utils.process_allgather(np.frombuffer(sent.tobytes(), np.uint8))
    return [
        np.frombuffer(part.tobytes(), rows.dtype).reshape(sent.shape)[:count]
        for part, count in zip(received, counts)
    ]


def gather_large(rows: Shaped[np.ndarray, "n ..."]) -> list[Shaped[np.ndarray, "_ ..."]]:
    """Returns what `gather` does, some rows at a time: JAX puts all on each device."""
    if jax.process_count() == 1:
        return [rows]
    step = max(1, _BLOCK // max(1, math.prod(rows.shape[1:])))
    most = max(int(count[0]) for count in gather(np.array([len(rows)])))
    blocks = [gather(rows[start : start + step]) for start in range(0, max(1, most), step)]
    return [np.concatenate(of_process) for of_process in zip(*blocks)]


def total(values: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Returns the sum over all processes of their values, of one shape, in every process."""
    if jax.process_count() == 1:
        return values
    flat = values.ravel()  # by block, for each process's block comes to every process
    blocks = np.split(flat, range(_BLOCK, flat.size, _BLOCK))
    return np.concatenate([np.sum(gather(b), axis=0) for b in blocks]).reshape(values.shape)


def from_first(values: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Returns the values of process 0; the others give any of the same shape and type."""
    if jax.process_count() == 1:
        return values
    sent = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    received = multihost_utils.broadcast_one_to_all(sent)
    return np.frombuffer(received.tobytes(), values.dtype).reshape(values.shape)


def part_of_process(length: int) -> slice:
    """Returns the rows, one after the other, of `length` that fall to this process."""
    number, count = process_share()
    return slice(number * length // count, (number + 1) * length // count)


def all_of(flag: bool) -> bool:
    """Returns whether a flag is set in every process."""
    return all(np.concatenate(gather(np.array([flag]))).tolist())


def gather_texts(texts: Sequence[str]) -> list[list[str]]:
    """Returns the texts of each process, in every process."""
    encoded = [np.frombuffer(text.encode(), np.uint8) for text in texts]
    lengths = gather(np.array([len(text) for text in encoded], np.int64))
    received = gather(np.concatenate([np.zeros(0, np.uint8), *encoded]))
    return [
        [part.tobytes().decode() for part in np.split(whole, np.cumsum(of_process))[:-1]]
        for whole, of_process in zip(received, lengths)
    ]


def stop_agreed(asked: bool) -> bool:
    """Returns whether to stop now; every process gets the same answer to the same call.

    Args:
      asked: whether this process was asked to. Where there are several, JAX's own service hears
        of it (a preemption sends SIGTERM) and chooses a call that none of them has made yet.
    """
    if jax.process_count() == 1:
        return asked
    return multihost_utils.reached_preemption_sync_point(next(_asked))  # must grow, run after run


def wait_if_lost(error: BaseException | None, heartbeat_seconds: float) -> None:
    """Waits for JAX to find out which process is gone, where an error comes from that.

    Such an error does not say which process is gone. JAX finds out within the heartbeat, and ends
    this process with the name. If it finds nobody gone, the error is raised as it is.

    Args:
      error: that a run has raised.
      heartbeat_seconds: see `join`.
    """
    while error and jax.distributed.is_initialized():
        if any(word in str(error) for word in _LOST):
            time.sleep(heartbeat_seconds + 30)
            return
        error = error.__cause__ or error.__context__
