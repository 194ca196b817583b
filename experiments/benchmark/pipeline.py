"""Extraction end to end: its share of pure compute, its cost as images and devices grow."""

import os
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.benchmark import contest, features, peers, rows
from experiments.benchmark.contest import Contestant
from experiments.benchmark.options import Options

if TYPE_CHECKING:  # importing it takes time that peers need not wait for
    from tl.data.sources import Source

BATCH_SIZE = 64
IMAGE_SIZE = 32  # of the images before they are resized on the device, as CIFAR-10's


def measure(options: Options, limits: Mapping[str, float], log: contest.Log) -> list[rows.Row]:
    """Returns the rows end to end, by number of images, and by number of devices."""
    if not options.data_dir:
        log("pipeline: no --data_dir with CIFAR-10, so the images are noise: nothing is decoded")
    return [_end_to_end(options, log), *_scale(options, log), *_devices(options, log)]


def _end_to_end(options: Options, log: contest.Log) -> rows.Row:
    """Of the same images: extraction into a store, and the compiled function on a loaded batch."""
    middle = sorted(options.images)[len(options.images) // 2]
    count = max(1, middle // BATCH_SIZE) * BATCH_SIZE
    network = options.backbone, options.pipeline_size
    contestants = [
        Contestant("ours", extraction, (*network, count, options.data_dir)),
        Contestant("compute alone", compute, (*network, count)),
    ]
    outcomes = contest.run(contestants, rounds=options.rounds, seconds=options.seconds, log=log)
    return _row(options, "end to end", outcomes, amount=count, images=count)


def _scale(options: Options, log: contest.Log) -> list[rows.Row]:
    """A row for each number of images, each in a fresh process; the last one has the line."""
    found = []
    for count in options.images:
        arguments = options.backbone, options.pipeline_size, count, options.data_dir
        outcomes = contest.run(
            [Contestant("ours", extraction, arguments)], rounds=1, seconds=0, log=log
        )
        found.append(_row(options, f"{count} images", outcomes, unit="s", images=count))
    if len(found) > 1 and all(row["ours"] for row in found):
        counts = [row["images"] for row in found]
        for quantity, values in {
            "seconds": [row["ours"] for row in found],
            "MiB": [row["peak_mib"]["ours"] for row in found],
        }.items():
            line = straight_line(counts, values)
            found[-1][f"line_{quantity}"] = line
            log(
                f"pipeline: {line['fixed']:.3g} {quantity} and {line['each'] * 1000:.3g} more for "
                f"every 1,000 images; {line['largest_deviation']:.1%} off that line at most"
            )
    return found


def straight_line(counts: list[int], values: list[float]) -> dict[str, float]:
    """Returns the least-squares line through some points, and how far they are from it.

    Args:
      counts: at least two different ones.
      values: one for each.

    Returns:
      `each`, its slope; `fixed`, its value at 0; `largest_deviation`, relative to the line there.
    """
    each, fixed = np.polyfit(counts, values, 1)
    line = each * np.asarray(counts) + fixed
    deviation = np.max(np.abs(np.asarray(values) / line - 1))
    return {"each": float(each), "fixed": float(fixed), "largest_deviation": float(deviation)}


def _devices(options: Options, log: contest.Log) -> list[rows.Row]:
    """A row for each number of fake devices of this CPU, against the first: overhead alone."""
    arguments = options.backbone, options.pipeline_size, BATCH_SIZE
    contestants = [
        Contestant(str(count), compute, arguments, environment=fake_devices(count))
        for count in options.devices
    ]
    outcomes = contest.run(contestants, rounds=options.rounds, seconds=options.seconds, log=log)
    first = str(options.devices[0])
    found = []
    for count in options.devices:
        both = {"ours": outcomes[str(count)]}
        if str(count) != first:
            both[f"{first} device(s)"] = outcomes[first]
        row = _row(options, f"{count} fake device(s)", both, amount=BATCH_SIZE, devices=count)
        found.append(row)
    return found


def fake_devices(count: int) -> dict[str, str]:
    """Returns the variables of a process whose CPU passes for several devices."""
    others = [
        flag
        for flag in os.environ.get("XLA_FLAGS", "").split()
        if not flag.startswith("--xla_force_host_platform_device_count=")
    ]
    return {"XLA_FLAGS": " ".join([*others, f"--xla_force_host_platform_device_count={count}"])}


def _row(
    options: Options, case: str, outcomes: Mapping[str, Any], unit: str = "images/s", **more: Any
) -> rows.Row:
    source = "cifar10" if options.data_dir else "noise"
    return rows.make(
        "pipeline", unit, outcomes, case=case, size=options.pipeline_size, source=source, **more
    )


def extraction(backbone: str, size: int, count: int, data_dir: str) -> peers.Work:
    """Ours: a source of small images into a new store of pooled features."""
    from experiments.benchmark.synthetic import random_network
    from tl import devices
    from tl.features.extract import extract
    from tl.features.network import Extraction

    devices.divide_cpu()  # as every command does
    network, asked = random_network(backbone, size), Extraction(("pooled",), batch_size=BATCH_SIZE)

    def fill(source: "Source") -> None:
        with tempfile.TemporaryDirectory() as folder:
            extract(network, source, network.spec.preprocessing, asked, folder, log=str)

    source = open_source(count, data_dir)
    fill(open_source(min(count, BATCH_SIZE), data_dir))  # compiles for batches of the same size
    return lambda: fill(source)


def compute(backbone: str, size: int, count: int) -> peers.Work:
    """The compiled function alone, on one batch again and again, `count` images in all."""
    from experiments.benchmark.synthetic import random_images

    mapped = features.compiled(backbone, size, "float32", IMAGE_SIZE)
    images = random_images(BATCH_SIZE, IMAGE_SIZE)

    def work() -> None:
        for _ in range(count // BATCH_SIZE):
            mapped.fetch(mapped(images))

    mapped.fetch(mapped(images))
    return work


def open_source(count: int, data_dir: str) -> "Source":
    """Returns the first images of CIFAR-10 or, without a `data_dir`, noise of the same size."""
    if not data_dir:
        from experiments.benchmark.synthetic import NoiseSource

        return NoiseSource(count, IMAGE_SIZE)
    from tl.data import sources

    data = sources.Data("cifar10", data_dir=data_dir, download=False)
    return sources.open_source(data, f"train[:{count}]")
