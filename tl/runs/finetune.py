"""A fine-tuning run, in call order: data, starting point, plan, loop, test, files."""

import hashlib
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from tl import checkpoint, devices, tree
from tl.checkpoint import Checkpoints
from tl.data import sources, splits
from tl.devices import DataParallel
from tl.errors import Stopped, UserError
from tl.fields import differences
from tl.files import write_json
from tl.report import plots, tables
from tl.runs import options, prefix, preview
from tl.runs import testing as kept
from tl.runs.outcome import write_report
from tl.runs.workdir import CHECKPOINTS, begin, replaces
from tl.train import freezing, inputs, interruption, logs, start
from tl.train.evaluator import Evaluator
from tl.train.inputs import Inputs
from tl.train.loop import Cadence, Interrupted, Progress, fit
from tl.train.plan import Plan, make_plan
from tl.train.recalibrate import recalibrated
from tl.train.state import TrainState
from tl.weights import own
from tl.weights.load import Pretrained

SCHEMA = 1
WEIGHTS = "model.safetensors"
CURVE = "learning_curve.png"
PREVIEW = "augmented.png"
LEAVES = "parameters.txt"

Log = Callable[[str], Any]
Parts = Mapping[str, tuple[sources.Source, np.ndarray]]


def run(config: ConfigDict, workdir: Path, log: Log = print) -> dict[str, Any]:
    """Fine-tunes a network, or goes on where an interrupted run in the same folder was.

    Args:
      config: see `configs/common.py`.
      workdir: the run's folder (`tl.runs.workdir.start`), which gets `metrics.jsonl`, TensorBoard
        events, checkpoints, pictures, the weights, the evidence (`tl.results.evidence`),
        `result.json` and, made from these, `report.html`.
      log: takes a line of text.

    Returns:
      What `result.json` holds.

    Raises:
      UserError: weights, data or a config that cannot be used; a loss that is not finite.
      Stopped: on SIGTERM or Ctrl-C, after saving.
    """
    began = time.perf_counter()
    opened = sources.open_sources(config.data)
    parts = _parts(config, opened)
    num_train = len(parts["train"][1])
    config, ruled = options.with_rule(config, num_train, opened["train"].image_shape)
    cadence = options.cadence(config, num_train)
    if config.train.rule:
        log(
            f"the rule {config.train.rule!r}: {cadence.steps} steps, images resized to "
            f"{config.augment.resize} px, {config.preprocess.size} of them seen, MixUp "
            f"{config.augment.mixup}"
        )
    parallel = DataParallel.over()
    parallel.check_batch_size(config.train.batch_size, config.train.accumulate)
    options.extraction(config)  # whose batches and threads serve evaluation
    network = start.network(config, opened["train"].classes, cadence.steps_per_epoch)
    plan = make_plan(config, network, cadence.steps)
    log("\n" + plan.tables(freezing.table) + "\n")
    fed = _inputs(config, network, plan, parts, log)
    mixing = options.mixing(config)
    evaluator = Evaluator(network.model, fed, parallel, config.extract.batch_size)
    identity = _identity(network, parts)
    # An earlier run is not replaced before this one has what it starts from.
    begun = _begin(plan, parts, evaluator, log) if replaces(workdir) else None
    begin(workdir)
    (workdir / LEAVES).write_text(plan.tables(freezing.leaf_table) + "\n")
    if not fed.start:
        preview.draw(
            fed, mixing, network.spec.classes, config.train.batch_size, options.seed(config),
            workdir / PREVIEW,
        )  # fmt: skip
    with Checkpoints(
        workdir / CHECKPOINTS, max_to_keep=config.train.max_to_keep, metric="top1"
    ) as checkpoints:
        if checkpoints.latest_step is None:
            state, progress = begun or _begin(plan, parts, evaluator, log), Progress()
        else:
            state, progress = _go_on(plan, parallel, checkpoints, identity)
            log(f"going on after step {int(state.step)} of {cadence.steps} in {workdir}")
        began -= progress.total  # of the processes before
        _train(
            plan, cadence, evaluator, state, progress, began, checkpoints, identity, workdir, log
        )
    best = progress.best()
    state, _ = checkpoint.read(workdir / CHECKPOINTS, best["step"])
    variables = own.kept(state)
    testing = time.perf_counter()
    test = kept.score(
        evaluator, parallel.replicate(variables), parts, network.spec.classes,
        options.seed(config), workdir,
    )  # fmt: skip
    own.save(variables, workdir / WEIGHTS, network.spec, network.spec.classes, network.sha256)
    done = time.perf_counter()
    result = {
        "schema": SCHEMA,
        "kind": "finetune",
        "data": _data(opened, parts),
        "weights": {"name": network.spec.name, "sha256": network.sha256},
        "selected": {"method": "fine-tune", "step": best["step"], "epoch": best["epoch"]},
        "val": {"top1": best["val_top1"], "count": len(parts["val"][1])},
        "test": test.as_dict(),
        "curve": progress.curve,
        "steps": {"planned": cadence.steps, "done": progress.curve[-1]["step"]},
        "rule": ruled,
        "parameters": _parameters(plan),
        "seeds": [{"seed": options.seed(config), "test_top1": test.top1}],
        "seconds": {
            "train": progress.seconds,
            "waiting_for_data": progress.waiting,
            "test": done - testing,
            "total": done - began,
        },
    }
    title = f"{network.spec.name} on {opened['train'].name}: fine-tuning"
    plots.learning_curve(progress.curve, best["epoch"], title, workdir / CURVE)
    write_json(workdir / "result.json", result)
    log("\n" + tables.finetune_table(result))
    log("\nwritten: " + ", ".join(str(workdir / n) for n in ("result.json", CURVE, WEIGHTS)))
    write_report(config, workdir, log)
    return result


def _parts(config: ConfigDict, opened: Mapping[str, sources.Source]) -> Parts:
    """Returns `train`, `val` and `test`, each as a source and its rows with a label."""
    train, val = splits.train_and_val(
        opened["train"].labels(),
        options.examples_per_class(config),
        None if "val" in opened else sources.carved_fraction(config.data.val),
        options.seed(config),
    )
    labelled = {split: np.flatnonzero(source.labels() >= 0) for split, source in opened.items()}
    parts = {
        "train": (opened["train"], train),
        "val": (opened["val"], labelled["val"]) if val is None else (opened["train"], val),
        "test": (opened["test"], labelled["test"]),
    }
    for part, (_, rows) in parts.items():
        if not len(rows):
            raise UserError(f"no image is left for {part}; give more examples a class")
    return parts


def _inputs(config: ConfigDict, network: Pretrained, plan: Plan, parts: Parts, log: Log) -> Inputs:
    if config.train.cache_prefix:
        # The last phase holds least.
        return prefix.cached(config, network, plan.phases[-1].freezing, parts, log)
    augmentation = options.augmentation(config)
    return inputs.of_images(parts, augmentation, network.spec.preprocessing, config.extract.threads)


def _begin(plan: Plan, parts: Parts, evaluator: Evaluator, log: Log) -> TrainState:
    """Returns the state before the first step, on the devices."""
    config, network = plan.config, plan.network
    fed, parallel = evaluator.fed, evaluator.parallel
    if config.train.norm == "recalibrate":
        network = recalibrated(network, config.train.freeze, fed, config.train.batch_size, parallel)
        log("batch statistics estimated anew on the training images")
    if config.train.head == "probe":
        network = start.with_head(network, start.fit_head(config, network, parts, log))

    def begin(variables: tree.Tree) -> TrainState:
        # Copies, for the state's memory is given to the first step.
        return plan.state(jax.tree.map(jnp.array, variables), plan.phases[0])

    # One program; outside of `jit` each shape of an array would be several.
    return jax.jit(begin, out_shardings=parallel.replicated)(network.variables)


def _go_on(
    plan: Plan,
    parallel: DataParallel,
    checkpoints: Checkpoints,
    identity: Mapping[str, Any],
) -> tuple[TrainState, Progress]:
    """Returns the state of the latest checkpoint, on the devices, and what belongs to it."""
    step = checkpoints.latest_step
    phase = plan.phase_of(step)
    expected = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=parallel.replicated),
        jax.eval_shape(lambda variables: plan.state(variables, phase), plan.network.variables),
    )
    state, position, metadata = checkpoints.restore(step, expected)
    if lines := differences(identity, metadata["identity"]):
        raise UserError(
            "the data or the weights are not those that the interrupted run began with; bring "
            "them back, or begin anew with --overwrite or another --workdir:\n  "
            + "\n  ".join(lines)
        )
    return state, Progress(position=position or None, **metadata["progress"])


def _train(
    plan: Plan,
    cadence: Cadence,
    evaluator: Evaluator,
    state: TrainState,
    progress: Progress,
    began: float,
    checkpoints: Checkpoints,
    identity: Mapping[str, Any],
    workdir: Path,
    log: Log,
) -> None:
    """Runs the loop with all that it writes and listens to; `progress` says what came of it.

    The run began at `began` of `time.perf_counter`, had it not been interrupted.
    """
    config, network = plan.config, plan.network
    fed, parallel = evaluator.fed, evaluator.parallel
    batch_size, first = config.train.batch_size, int(state.step)
    process, processes = devices.process_share()
    tells = process == 0
    stream = fed.stream(batch_size, options.seed(config), progress.position, (process, processes))
    network_of_checkpoint = own.describe(network.spec, network.spec.classes, network.sha256)

    def save(state: TrainState, progress: Progress, measured: Mapping[str, float] | None) -> None:
        progress.total = time.perf_counter() - began
        metadata = {
            "config": config.to_dict(),
            "network": network_of_checkpoint,
            "identity": identity,
            "progress": {k: v for k, v in vars(progress).items() if k != "position"},
        }
        checkpoints.save(int(state.step), state, progress.position or {}, metadata, measured)

    with (
        logs.RunLog(workdir, first if progress.curve else None, enabled=tells) as run_log,
        logs.progress(cadence.steps * batch_size, first * batch_size, enabled=tells) as bar,
        # Of several processes JAX's own service hears the signal (`devices.stop_agreed`).
        interruption.noted(interruption.SIGNALS if processes == 1 else ()) as request,
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
                phases=plan.compiled(fed, parallel),
                batches=devices.prefetch(stream, lambda item: (parallel.put(item[0]), item[1])),
                cadence=cadence,
                evaluate=lambda state: evaluator.metrics(state.evaluated, "val"),
                save=save,
                record=record,
                show=lambda loss: bar.update(batch_size, loss),
                interrupted=lambda step: devices.stop_agreed(request.sent is not None, step),
            )
        except Interrupted as interrupted:
            sent = request.sent or signal.SIGTERM
            raise Stopped(
                f"stopped by {sent.name} after step {interrupted.step} of {cadence.steps}, which "
                f"is saved; the same command with --workdir={workdir} goes on from there",
                128 + sent,
            ) from None
        finally:
            stream.close()


def _identity(network: Pretrained, parts: Parts) -> dict[str, Any]:
    """Returns what must be the same for an interrupted run to go on, as JSON."""
    return {
        "weights": network.sha256,
        "data": {
            part: {
                "name": source.name,
                "version": source.version,
                "split": source.split,
                "rows": hashlib.sha256(np.asarray(rows, np.int64).tobytes()).hexdigest(),
            }
            for part, (source, rows) in parts.items()
        },
    }


def _data(opened: Mapping[str, sources.Source], parts: Parts) -> dict[str, Any]:
    first = opened["train"]
    return {
        "name": first.name,
        "version": first.version,
        "splits": {split: source.split for split, source in opened.items()},
        "classes": len(first.classes),
        **{part: len(rows) for part, (_, rows) in parts.items()},
    }


def _parameters(plan: Plan) -> dict[str, int]:
    """Returns the number of parameters, and of those that train in any phase."""
    sizes = {k: np.size(v) for k, v in tree.leaves(plan.network.variables["params"]).items()}
    trained = frozenset().union(*(plan.trained(phase) for phase in plan.phases))
    return {"all": sum(sizes.values()), "trained": sum(sizes[path] for path in trained)}
