"""Images a second of frozen features: our path from uint8 images against the frameworks' own."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmark import contest, peers, rows
from experiments.benchmark.contest import Contestant
from experiments.benchmark.options import Options


def measure(options: Options, limits: dict[str, float], log: contest.Log) -> list[rows.Row]:
    """Returns a row for each size and type; all types of one size take turns with each other."""
    return [row for size in options.sizes for row in _of_size(options, size, limits, log)]


def _of_size(
    options: Options, size: int, limits: dict[str, float], log: contest.Log
) -> list[rows.Row]:
    batch_size = options.batch_size or (64 if size <= 112 else 32)
    with tempfile.TemporaryDirectory() as folder:
        contestants = _contestants(options, size, batch_size, Path(folder), log)
        outcomes = contest.run(contestants, rounds=options.rounds, seconds=options.seconds, log=log)
    flops = contest.alone(forward_flops, options.backbone, size, log=log).value
    reference = outcomes["ours float32"].value
    found = []
    for dtype in options.dtypes:
        of_type = {
            name.removesuffix(f" {dtype}"): outcome
            for name, outcome in outcomes.items()
            if name.endswith(dtype)
        }
        if dtype != "float32" and "onnxruntime float32" in outcomes:  # it runs in no other type
            of_type["onnxruntime float32"] = outcomes["onnxruntime float32"]
        error = _relative_error(of_type["ours"].value, reference)
        if error:
            log(f"features, {size} px: those of {dtype} are off by {error:.1e} of the largest")
        row = rows.make(
            "features", "images/s", of_type, amount=batch_size, size=size, dtype=dtype,
            flops=flops or 0.0, limit=limits.get(dtype, 0.0), case=options.backbone,
            batch_size=batch_size, error_against_float32=error,
        )  # fmt: skip
        found.append(row)
    return found


def _contestants(
    options: Options, size: int, batch_size: int, folder: Path, log: contest.Log
) -> list[Contestant]:
    found = []
    for dtype in dict.fromkeys(("float32", *options.dtypes)):  # errors are against float32
        arguments = (options.backbone, size, batch_size, dtype)
        found.append(Contestant(f"ours {dtype}", ours, arguments))
        if dtype in options.dtypes:
            found += [peer for peer in _peers(arguments, dtype) if _asked(peer, options)]
    path = str(folder / "network.onnx")
    runtime = Contestant(
        "onnxruntime float32",
        peers.onnxruntime_forward,
        (path, size, batch_size),
        ("onnxruntime", "torch", "timm", "onnx", "onnxscript"),
    )
    if _asked(runtime, options):
        if not contest.absent(runtime):
            # In a process that ends: its memory and its threads are not the runtime's.
            contest.alone(peers.export_onnx, options.backbone, size, batch_size, path, log=log)
        found.append(runtime)
    return found


def _peers(arguments: tuple, dtype: str) -> list[Contestant]:
    keras = {"KERAS_BACKEND": "jax"}
    found = [
        Contestant(f"flax {dtype}", peers.flax_forward, arguments),
        Contestant(f"keras {dtype}", peers.keras_forward, arguments, ("keras",), keras),
        Contestant(f"torch {dtype}", peers.torch_forward, arguments, ("torch", "timm")),
    ]
    backbone = arguments[0]
    return [peer for peer in found if "keras" not in peer.needs or backbone in peers.KERAS]


def _asked(peer: Contestant, options: Options) -> bool:
    return peer.name.split()[0] in options.peers


def _relative_error(values: np.ndarray | None, reference: np.ndarray | None) -> float | None:
    if values is None or reference is None:
        return None
    return float(np.max(np.abs(values - reference)) / np.max(np.abs(reference)))


def forward_flops(backbone: str, size: int) -> float:
    """Returns `native.forward_flops`; only the process that calls it loads JAX."""
    from experiments.benchmark import native

    return native.forward_flops(backbone, size)


def compiled(backbone: str, size: int, dtype: str, image_size: int | None = None) -> Any:
    """Returns our function of uint8 images, as extraction compiles it (`tl.devices.Mapped`).

    Args:
      backbone: see `tl.models.registry`.
      size: of the network's images, pixels.
      dtype: of compute.
      image_size: of the images that it is given and resizes on the device; None: `size`.
    """
    from experiments.benchmark.synthetic import random_network
    from tl import devices
    from tl.features.network import Extraction, compile_features

    devices.divide_cpu()  # as every command does
    network = random_network(backbone, size)
    shape = None if image_size is None else (image_size, image_size, 3)
    extraction = Extraction(("pooled",), dtype=dtype)
    return compile_features(network, shape, network.spec.preprocessing, extraction)


def ours(backbone: str, size: int, batch_size: int, dtype: str) -> peers.Work:
    """Ours: bytes in, folded batch normalisation, all devices."""
    from experiments.benchmark.synthetic import random_images

    mapped, images = compiled(backbone, size, dtype), random_images(batch_size, size)
    return peers.warm(lambda: mapped.fetch(mapped(images))["pooled"])
