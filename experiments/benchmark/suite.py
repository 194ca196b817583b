"""A whole benchmark: the limit, then each section; its file is written anew after every row."""

import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from experiments.benchmark import (
    features,
    gpu,
    guide,
    limit,
    memory,
    pipeline,
    probe,
    rows,
    startup,
    train,
)
from experiments.benchmark.contest import Log
from experiments.benchmark.options import Options
from tl import files
from tl.runs.environment import environment

SCHEMA = 1
FILE = "benchmark.json"
MEASURES: dict[str, Callable[[Options, dict[str, float], Log], Iterable[rows.Row]]] = {
    "features": features.measure,
    "train": train.measure,
    "probe": probe.measure,
    "pipeline": pipeline.measure,
    "startup": startup.measure,
    "memory": memory.measure,
    "gpu": gpu.measure,
}
PEER_PACKAGES = ("keras", "torch", "timm", "onnxruntime")


def run(options: Options, folder: Path, log: Log = print) -> dict[str, Any]:
    """Measures the sections asked for and prints a table of each.

    Args:
      options: what to measure.
      folder: gets `benchmark.json`.
      log: takes a line of text.

    Returns:
      What `benchmark.json` holds: `environment`, `limit` (operations a second), `rows`.
    """
    limits: dict[str, float] = {}
    if {"features", "train"} & set(options.sections):
        limits = limit.measure(
            options.limit_side, rounds=min(3, options.rounds), seconds=options.seconds, log=log
        )
        for dtype, flops in limits.items():
            log(f"matrix products of {dtype}: {flops / 1e9:.0f} GFLOP/s")
    measured: list[rows.Row] = []
    result = {
        "schema": SCHEMA, "environment": _environment(), "limit": limits, "rows": measured
    }  # fmt: skip
    for section in options.sections:
        began = time.perf_counter()
        measuring = MEASURES[section](options, limits, log)
        if section == "pipeline" and options.guide:
            measuring = [*measuring, guide.measure(options, log)]
        found = []
        for row in measuring:  # `gpu` takes long and yields each once it is measured
            found.append(row)
            measured.append(row)
            files.write_json(folder / FILE, result)
        log(f"\n{rows.table(found)}\n\n{section}: {time.perf_counter() - began:.0f} s\n")
    log(f"written: {folder / FILE}")
    return result


def _environment() -> dict[str, Any]:
    found = environment()
    found["processor"] = _processor()
    for name in PEER_PACKAGES:
        try:
            found["versions"][name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found["versions"][name] = None
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
