"""Begins or resumes training, and runs it with its logs, checkpoints and signals."""

import dataclasses
import hashlib
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from tl import devices, hosts
from tl.data import sources
from tl.data.sources import Source
from tl.devices import DataParallel
from tl.errors import Stopped, UserError
from tl.fields import differences
from tl.files import Log
from tl.storage.checkpoint import Checkpoints, Damaged
from tl.train import interruption, logs
from tl.train.evaluator import Evaluator
from tl.train.loop import Interrupted, Progress, fit
from tl.train.plan import Plan
from tl.train.state import TrainState
from tl.tree import Tree
from tl.weights.load import Pretrained


@dataclasses.dataclass(frozen=True)
class Session:
    """What training needs beside the state.

    Attributes:
      plan: phases, learning rates and optimizer.
      evaluator: evaluates on val; has the data and the devices.
      checkpoints: of the run.
      identity: see `identity`; a checkpoint with another one is refused.
      metadata: JSON values to save in every checkpoint, such as the config and the network.
      workdir: the run's folder, for metrics.jsonl and TensorBoard events.
      log: takes a line of text.
    """

    plan: Plan
    evaluator: Evaluator
    checkpoints: Checkpoints
    identity: Mapping[str, Any]
    metadata: Mapping[str, Any]
    workdir: Path
    log: Log


def identity(
    network: Pretrained, parts: Mapping[str, tuple[Source, Int[np.ndarray, " _"]]]
) -> dict[str, Any]:
    """Returns, as JSON, what must be the same for an interrupted run to go on."""
    return {
        "weights": network.sha256,
        "data": {
            part: {
                **sources.identity(source),
                "rows": hashlib.sha256(np.asarray(rows, np.int64).tobytes()).hexdigest(),
            }
            for part, (source, rows) in parts.items()
        },
    }


def begin(plan: Plan, variables: Tree, parallel: DataParallel) -> TrainState:
    """Returns the state before the first step, on the devices.

    Args:
      plan: of the run.
      variables: that training starts from.
      parallel: the devices.
    """

    def first_state(variables: Tree) -> TrainState:
        # Copies, since the first step reuses the state's memory.
        return plan.state(jax.tree.map(jnp.array, variables), plan.phases[0])

    # Jitted as one program; otherwise several would be compiled for each shape of an array.
    layout = parallel.layout(plan.shapes(plan.phases[0]))
    return jax.jit(first_state, out_shardings=layout)(parallel.place(variables))


def resume(session: Session) -> tuple[TrainState, Progress]:
    """Returns the state of the latest checkpoint, on the devices, and its progress.

    A damaged one is set aside where there is one before it.

    Raises:
      UserError: all are damaged; or other data, weights or parameters.
    """
    plan, parallel = session.plan, session.evaluator.parallel
    if session.checkpoints.latest_step is None:
        raise ValueError("expected a checkpoint to go on from; there is none")
    damaged: dict[int, Damaged] = {}
    for step in session.checkpoints.steps:
        shapes = plan.shapes(plan.phase_of(step))
        expected = jax.tree.map(
            lambda leaf, lies: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies),
            shapes,
            parallel.layout(shapes),
        )
        try:
            state, position, metadata = session.checkpoints.restore(step, expected)
        except Damaged as error:
            damaged[step] = error
        # Each host may have read another copy, and all go on from the same step.
        if hosts.all_of(step not in damaged):
            break
        damaged.setdefault(step, Damaged(f"the checkpoint of step {step} is damaged elsewhere"))
    else:
        raise next(iter(damaged.values()))
    if lines := differences(session.identity, metadata["identity"]):
        raise UserError(
            "the data or the weights are not those that the interrupted run began with; bring "
            "them back, or begin anew with --overwrite or another --workdir:\n  "
            + "\n  ".join(lines)
        )
    for lost, why in damaged.items():
        session.log(f"warning: {why.brief}; going on from that of step {step}")
        session.checkpoints.set_aside(lost)
    return state, Progress(position=position or None, **metadata["progress"])


def train(session: Session, state: TrainState, progress: Progress, began: float) -> None:
    """Trains to the end; `progress` has the results.

    Args:
      session: of the run.
      state: on the devices; its memory is reused, so it cannot be read afterwards.
      progress: is updated in place.
      began: start of the run by `time.perf_counter`, shifted so that interruptions do not count.

    Raises:
      UserError: a loss or a gradient is not finite.
      Stopped: on SIGTERM or Ctrl-C, after saving.
    """
    plan, evaluator, log = session.plan, session.evaluator, session.log
    recipe, cadence = plan.recipe, plan.recipe.cadence
    inputs, parallel = evaluator.inputs, evaluator.parallel
    batch_size, first = recipe.batch_size, int(state.step)
    share = hosts.process_share()
    logging = hosts.is_first()
    stream = inputs.stream(batch_size, recipe.seed, progress.position, share)

    def save(state: TrainState, progress: Progress, measured: Mapping[str, float] | None) -> None:
        progress.total = time.perf_counter() - began
        metadata = {
            **session.metadata,
            "identity": session.identity,
            "progress": {k: v for k, v in vars(progress).items() if k != "position"},
        }
        position = progress.position or {}
        run_log.flush()  # of the steps before a checkpoint there is a record
        session.checkpoints.save(int(state.step), state, position, metadata, measured)

    with (
        logs.RunLog(session.workdir, first if progress.curve else None, enabled=logging) as run_log,
        logs.progress_bar(cadence.steps * batch_size, first * batch_size) as bar,
        # With several processes JAX's own service receives the signal (`hosts.stop_agreed`).
        interruption.catch_signals(interruption.SIGNALS if share[1] == 1 else ()) as request,
    ):

        def record(step: int, scalars: Mapping[str, float]) -> None:
            run_log.write(step, scalars)
            if "val/top1" in scalars:
                with bar.external_write_mode():
                    log(
                        f"step {step}, epoch {step / cadence.steps_per_epoch:.1f}: val top-1 "
                        f"{100 * scalars['val/top1']:.2f} %, loss {scalars['val/loss']:.4f}"
                    )

        try:
            fit(
                state,
                progress,
                phases=plan.compiled(inputs, parallel),
                batches=devices.prefetch(stream, lambda item: (parallel.put(item[0]), item[1])),
                cadence=cadence,
                evaluate=lambda state: evaluator.metrics(state.evaluated, "val"),
                save=save,
                record=record,
                show=lambda loss: bar.update(batch_size, loss),
                interrupted=lambda _: hosts.stop_agreed(request.sent is not None),
            )
        except Interrupted as interrupted:
            sent = request.sent or signal.SIGTERM
            raise Stopped(
                f"stopped by {sent.name} after step {interrupted.step} of {cadence.steps}, which "
                f"is saved; the same command with --workdir={session.workdir} goes on from there",
                128 + sent,
            ) from None
        finally:
            stream.close()
