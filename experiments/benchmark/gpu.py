"""On an accelerator: features and training beside torch's compiler, where the time goes, the rest.

Networks take images that lie on the device and leave results there, so that their rates are those
of one device. The parts `arrays` and `files` then start from the host's memory and from JPEG files.
"""

import os
from collections.abc import Callable, Iterator, Sequence

from experiments.benchmark import contest, features, gpu_host, gpu_ours, gpu_torch, gpu_trace, rows
from experiments.benchmark import probe as probes
from experiments.benchmark.contest import Contestant
from experiments.benchmark.options import Options
from experiments.benchmark.timing import Setting, Timing
from experiments.benchmark.train import PASSES

SIZE = 224  # of the images, pixels
TRAIN_DTYPES = ("tfloat32", "bfloat16")
PROBE = 50_000, 2048, 10  # rows, features, classes
# The first card that this process may use.
ONE = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}

Log = contest.Log


def measure(options: Options, limits: dict[str, float], log: Log) -> Iterator[rows.Row]:
    """Yields the rows of `gpu_parts`, each part once it is measured; the limits come first.

    Args:
      options: what to measure.
      limits: is not used; this section measures its own.
      log: takes a line of text.
    """
    found, limits = _limits(options, log)
    yield from found
    parts: dict[str, Callable[[str], list[rows.Row]]] = {
        "features": lambda backbone: _features(options, backbone, limits, log),
        "train": lambda backbone: _training(options, backbone, limits, log),
        "trace": lambda backbone: _traces(options, backbone, log),
        "arrays": lambda backbone: _from_host(options, backbone, "arrays", log),
        "files": lambda backbone: _from_host(options, backbone, "files", log),
    }
    for backbone in options.gpu_backbones:
        for name, part in parts.items():
            if name in options.gpu_parts:
                yield from part(backbone)
    if "probe" in options.gpu_parts:
        yield _probe(options, log)


def _limits(options: Options, log: Log) -> tuple[list[rows.Row], dict[str, float]]:
    """Returns rows, and operations or bytes a second by name."""
    contestant = _contestant("ours", gpu_host.limits, (options.seconds,))
    outcome = contest.run([contestant], rounds=1, seconds=0, log=log)["ours"]
    limits = outcome.value or {}
    found = []
    for name, rate in limits.items():
        unit = "TB/s" if name == "copy" else "TFLOP/s"
        row = rows.make("gpu", unit, {"ours": contest.Outcome((rate / 1e12,))}, case=name, dtype="")
        found.append(row)
    return found, limits


def _contestant(name: str, factory: Callable, arguments: tuple, needs: tuple = ()) -> Contestant:
    return Contestant(name, factory, arguments, needs, ONE)


def _settings(dtypes: Sequence[str], batches: Sequence[int]) -> tuple[Setting, ...]:
    return tuple((dtype, batch) for dtype in dtypes for batch in batches)


def _contestants(
    options: Options,
    backbone: str,
    ours: tuple[Callable, tuple],
    peer: Callable,
    settings: tuple[Setting, ...],
) -> list[Contestant]:
    """Returns ours, torch, and torch compiled in each mode for one batch and type."""
    arguments = backbone, SIZE, settings, options.seconds
    function, more = ours
    found = [_contestant("ours", function, (*arguments, *more))]
    if "torch" not in options.peers:
        return found
    needs = ("torch", "timm")
    found.append(_contestant("torch", peer, (*arguments, ""), needs))
    # It compiles for minutes: only what is compared last.
    compiled = tuple(
        (dtype, batch)
        for dtype, batch in settings
        if dtype == "bfloat16" and batch in options.gpu_compiled_batches
    )
    found += [
        _contestant(mode, peer, (backbone, SIZE, compiled, options.seconds, mode), needs)
        for mode in options.gpu_modes
        if compiled
    ]
    return found


def _contest(
    options: Options,
    contestants: list[Contestant],
    settings: tuple[Setting, ...],
    log: Log,
    *,
    case: str,
    flops: float,
    limits: dict[str, float],
) -> list[rows.Row]:
    """Returns a row for each setting."""
    modes = [c.name for c in contestants if c.name not in ("ours", "torch")]
    outcomes = contest.run(
        contestants, rounds=options.rounds, seconds=0, log=log, together=["torch", *modes]
    )
    found = []
    for setting in settings:
        dtype, batch_size = setting
        of_setting = {
            name: outcome if outcome.error else outcome.value[setting].outcome()
            for name, outcome in outcomes.items()
            if outcome.error or setting in outcome.value
        }
        for name, outcome in of_setting.items():
            if outcome.error:
                log(f"{case}, {dtype}, {batch_size} images, {name}: {outcome.error}")
        row = rows.make(
            "gpu", "images/s", of_setting, amount=batch_size, case=case, size=batch_size,
            dtype=dtype, flops=flops, limit=limits.get(dtype, 0.0), batch_size=batch_size,
        )  # fmt: skip
        found.append(row)
    return found


def _features(
    options: Options, backbone: str, limits: dict[str, float], log: Log
) -> list[rows.Row]:
    settings = _settings(options.gpu_dtypes, options.gpu_batches)
    contestants = _contestants(
        options, backbone, (gpu_ours.features, ()), gpu_torch.features, settings
    )
    flops = contest.alone(features.forward_flops, backbone, SIZE, log=log).value or 0.0
    return _contest(
        options, contestants, settings, log, case=f"{backbone}, features", flops=flops,
        limits=limits,
    )  # fmt: skip


def _training(
    options: Options, backbone: str, limits: dict[str, float], log: Log
) -> list[rows.Row]:
    dtypes = [dtype for dtype in options.gpu_dtypes if dtype in TRAIN_DTYPES]
    settings = _settings(dtypes, options.gpu_train_batches)
    ours = gpu_ours.training, (options.train_config,)
    contestants = _contestants(options, backbone, ours, gpu_torch.training, settings)
    flops = contest.alone(features.forward_flops, backbone, SIZE, log=log).value or 0.0
    return _contest(
        options, contestants, settings, log, case=f"{backbone}, training", flops=PASSES * flops,
        limits=limits,
    )  # fmt: skip


def _traces(options: Options, backbone: str, log: Log) -> list[rows.Row]:
    """Returns two rows with the field `operations`: of features and of a training step."""
    calls: dict[str, tuple[Callable, tuple]] = {
        "features": (gpu_trace.measure, ("bfloat16", max(options.gpu_compiled_batches))),
        "training": (
            gpu_trace.measure_step,
            ("bfloat16", max(options.gpu_train_batches), options.train_config),
        ),
    }
    found = []
    for kind, (function, arguments) in calls.items():
        outcome = contest.alone(function, backbone, SIZE, *arguments, environment=ONE, log=log)
        case, operations = f"{backbone}, {kind}, kernels", outcome.value or []
        if operations:
            log(f"\n{case}, bfloat16, {arguments[1]} images:\n{gpu_trace.table(operations)}\n")
        timing = Timing([sum(o["milliseconds"] for o in operations) / 1e3] if operations else [])
        row = rows.make(
            "gpu", "s", {"ours": timing.outcome()} if operations else {}, case=case,
            size=arguments[1], dtype="bfloat16", operations=operations,
        )  # fmt: skip
        found.append(row)
    return found


def _from_host(options: Options, backbone: str, kind: str, log: Log) -> list[rows.Row]:
    """Returns a row: extraction's rate, beside the program's on images that lie on the device."""
    batch_size = max(options.gpu_compiled_batches)
    arguments = backbone, SIZE, ("bfloat16", batch_size), options.gpu_images
    contestants = [
        _contestant("ours", gpu_host.extraction, (*arguments, kind)),
        _contestant("compute alone", gpu_host.compute, arguments),
        _contestant("loading alone", gpu_host.loading, (*arguments, kind)),
    ]
    outcomes = contest.run(contestants, rounds=options.rounds, seconds=0, log=log)
    row = rows.make(
        "gpu", "images/s", outcomes, amount=options.gpu_images, case=f"{backbone}, from {kind}",
        size=batch_size, dtype="bfloat16", images=options.gpu_images,
    )  # fmt: skip
    return [row]


def _probe(options: Options, log: Log) -> rows.Row:
    """Returns the seconds of the whole path over all strengths."""
    settings = options.train_config.probe
    arguments = PROBE, tuple(settings.l2), settings.search_tolerance
    outcomes = contest.run(
        [_contestant("ours", probes.ours, arguments)], rounds=1, seconds=0, log=log
    )
    case = f"probe, {len(settings.l2)} strengths"
    return rows.make("gpu", "s", outcomes, case=case, size="x".join(map(str, PROBE)))
