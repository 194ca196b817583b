"""A fine-tuning run, in the order of its calls: data, recipe, network, plan, training, test."""

import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tl import hosts
from tl.data import sources
from tl.data.sources import Source
from tl.devices import DataParallel
from tl.files import Log
from tl.probes.solvers import Logistic
from tl.report import tables
from tl.results import formats
from tl.results.run import SCHEMA
from tl.results.warnings import of_parts, of_steps, tell
from tl.runs import options, prefix, preview, testing
from tl.runs.outcome import describe_data, describe_weights, usage, write_report, write_result
from tl.runs.parts import divide, labels_of
from tl.runs.probe_head import fit_head
from tl.runs.workdir import CHECKPOINTS, begin, replaces
from tl.storage import checkpoint
from tl.storage.checkpoint import Checkpoints
from tl.train import freezing, session, start, wise_ft
from tl.train.evaluator import Evaluator
from tl.train.inputs import image_inputs
from tl.train.loop import Progress
from tl.train.plan import make_plan
from tl.train.recalibrate import recalibrate
from tl.train.recipe import Recipe
from tl.train.session import Session
from tl.train.state import TrainState
from tl.weights import trained
from tl.weights.load import Pretrained

WEIGHTS = "model.safetensors"
CURVE = "learning_curve.png"
PREVIEW = "augmented.png"
LEAVES = "parameters.txt"

Parts = Mapping[str, tuple[Source, np.ndarray]]


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
    data = options.data_to_hold_out(config, "fine-tuning")
    opened = sources.open_sources(data)
    parts = divide(
        opened,
        options.examples_per_class(config),
        options.seed(config),
        data.val_fraction,
        sources.groups(opened["train"]),
    )
    warnings = of_parts(
        labels_of(parts), opened["train"].classes, chosen=options.examples_per_class(config) > 0
    )
    recipe = options.recipe(config, len(parts["train"][1]), opened["train"].image_shape)
    warnings += of_steps(recipe.cadence.steps, recipe.head)
    tell(warnings, log)
    if recipe.rule:
        log(_about_rule(recipe))
    parallel = dataclasses.replace(DataParallel.over(), sharding=recipe.sharding)
    parallel.check_batch_size(recipe.batch_size, recipe.accumulate)
    # What is extracted on the way, for the head or a prefix, is computed as training is.
    extraction = dataclasses.replace(options.extraction(config), dtype=recipe.dtype)
    root = options.feature_root(config)
    network = start.initial_network(recipe, opened["train"].classes)
    recipe = recipe.of(network.backbone)
    plan = make_plan(recipe, start.with_lora(network, recipe))
    log("\n" + plan.tables(freezing.table) + "\n")
    memory = plan.memory(parallel)
    log(f"state of training: {formats.memory(memory)}\n")
    if recipe.cache_prefix:
        inputs = prefix.cached(plan, parts, extraction, root, log)
    else:
        inputs = image_inputs(
            parts, recipe.augmentation, network.spec.preprocessing, extraction.threads
        )
    evaluator = Evaluator(
        network.model, inputs, parallel, extraction.batch_size, recipe.loss.function
    )
    solver = next((s for s in options.solvers(config) if isinstance(s, Logistic)), Logistic())

    @functools.cache
    def started_from() -> Pretrained:
        started = network
        if recipe.norm == "recalibrate":
            started = recalibrate(started, recipe.freeze, inputs, recipe.batch_size, parallel)
            log("batch statistics estimated anew on the training images")
        if recipe.head == "probe":
            head = fit_head(started, parts, extraction, root, solver, log)
            started = started.with_head(head)
        return started

    def first_state() -> TrainState:
        variables = start.with_lora(started_from(), recipe).variables
        return session.begin(plan, variables, parallel)

    # An earlier run is not replaced before this one has what it starts from.
    first = first_state() if replaces(workdir) else None
    begin(workdir)
    if hosts.is_first():
        (workdir / LEAVES).write_text(plan.tables(freezing.leaf_table) + "\n")
    if hosts.is_first() and not inputs.start:
        preview.draw(
            inputs, recipe.mixing, network.spec.classes, recipe.batch_size, recipe.seed,
            workdir / PREVIEW,
        )  # fmt: skip
    with Checkpoints(
        workdir / CHECKPOINTS, max_to_keep=recipe.max_to_keep, metric="top1"
    ) as checkpoints:
        training = Session(
            plan,
            evaluator,
            checkpoints,
            identity=session.identity(network, parts),
            metadata={
                "config": config.to_dict(),
                "network": trained.describe(network.spec, network.spec.classes, network.sha256),
            },
            workdir=workdir,
            log=log,
        )
        if checkpoints.latest_step is None:
            state, progress = first or first_state(), Progress()
        else:
            state, progress = session.resume(training)
            log(f"going on after step {int(state.step)} of {recipe.cadence.steps} in {workdir}")
        began -= progress.total  # of the processes before
        session.train(training, state, progress, began)
    best = progress.best()
    saved, _ = checkpoint.read(workdir / CHECKPOINTS, best["step"])
    variables = trained.evaluated_variables(saved)
    selected = {"method": "fine-tune", "step": best["step"], "epoch": best["epoch"]}
    val_top1, between = best["val_top1"], list[dict[str, float]]()
    if recipe.wise_ft:
        variables, between, chosen = wise_ft.choose(
            started_from().variables,
            variables,
            lambda variables: evaluator.metrics(parallel.place(variables), "val"),
            len(parts["val"][1]),
        )
        selected["wise_ft"], val_top1 = between[chosen]["share"], between[chosen]["val_top1"]
    before_test = time.perf_counter()
    test, temperature = testing.score(
        evaluator, parallel.place(variables), parts, network.spec, recipe.seed, workdir
    )
    if hosts.is_first():
        trained.save(
            variables,
            workdir / WEIGHTS,
            network.spec,
            network.spec.classes,
            network.sha256,
            temperature,
        )
    done = time.perf_counter()
    warnings = [*sources.warnings(opened), *warnings]
    result = {
        "schema": SCHEMA,
        "kind": "finetune",
        "data": describe_data(opened, {part: len(rows) for part, (_, rows) in parts.items()}),
        "weights": describe_weights(network),
        "selected": selected,
        "val": {"top1": val_top1, "count": len(parts["val"][1])},
        "test": test.as_dict(),
        "curve": progress.curve,
        **({"wise_ft": between} if between else {}),
        "steps": {"planned": recipe.cadence.steps, "done": progress.curve[-1]["step"]},
        "rule": recipe.ruled,
        "parameters": plan.parameter_counts(),
        "memory": memory,
        "warnings": warnings,
        "seeds": [{"seed": recipe.seed, "test_top1": test.top1}],
        "seconds": {
            "train": progress.seconds,
            "waiting_for_data": progress.waiting,
            "test": done - before_test,
            "total": done - began,
        },
    }
    if hosts.is_first():
        from tl.report import plots  # Matplotlib takes a second to import: not at the start

        title = f"{network.spec.name} on {opened['train'].name}: fine-tuning"
        plots.learning_curve(
            progress.curve, best["epoch"], title, workdir / CURVE, config.train.loss
        )
    write_result(workdir, result)
    log("\n" + tables.finetune_table(result))
    tell(warnings, log)
    log("\nwritten: " + ", ".join(str(workdir / n) for n in ("result.json", CURVE, WEIGHTS)))
    log(usage(workdir))
    write_report(config.report, workdir, log)
    return result


def _about_rule(recipe: Recipe) -> str:
    return (
        f"the rule {recipe.rule!r}: {recipe.cadence.steps} steps, images resized to "
        f"{recipe.augmentation.resize} px, {recipe.overrides.size} of them seen, MixUp "
        f"{recipe.mixing.mixup}"
    )
