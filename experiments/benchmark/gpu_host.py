"""What the GPU section measures around the network: the card's limits, the way from the host."""

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.benchmark.timing import Setting, seconds_of_call

if TYPE_CHECKING:
    from tl.data.sources import Source

SIDES = {"float32": 8192, "tfloat32": 8192, "bfloat16": 8192}
COPIED = 2**30  # bytes
DIFFERENT = 1024  # images that are made; a source of more shows them again
PHOTOGRAPH = 500, 375  # width and height of the JPEG files, as ImageNet's are on average


def limits(seconds: float) -> Callable[[], dict[str, float]]:
    """Returns a function that measures what the device can do, each about so many seconds long.

    Its result: operations a second of a square matrix product by type, and under `copy` the bytes a
    second that are read and written.
    """
    import jax
    import jax.numpy as jnp

    precisions = {"float32": "highest", "tfloat32": "tensorfloat32", "bfloat16": "default"}

    def measure() -> dict[str, float]:
        found = {}
        for dtype, side in SIDES.items():
            kind = "float32" if dtype == "tfloat32" else dtype
            factor = jax.random.normal(jax.random.key(0), (side, side)).astype(kind)
            product = jax.jit(functools.partial(jnp.matmul, precision=precisions[dtype]))
            call = functools.partial(product, factor, factor)
            call()
            each = seconds_of_call(call, jax.block_until_ready, seconds)
            found[dtype] = 2 * side**3 / each
        values = jnp.ones(COPIED // 4, jnp.float32)
        copy = functools.partial(jax.jit(lambda x: -x), values)
        copy()
        found["copy"] = 2 * COPIED / seconds_of_call(copy, jax.block_until_ready, seconds)
        return found

    return measure


def arrays(size: int, count: int) -> "Source":
    """Returns so many images of one size that lie in memory, the same again and again."""
    from experiments.benchmark.synthetic import NoiseSource

    noise = NoiseSource(DIFFERENT, size)
    examples = [noise[row] for row in range(DIFFERENT)]

    class InMemory(NoiseSource):
        def __getitem__(self, row: int) -> Any:
            return examples[row % DIFFERENT]

    return InMemory(count, size)


def files(folder: str, count: int) -> "Source":
    """Writes photographs as large as ImageNet's; returns so many, the same again and again."""
    from PIL import Image

    from tl.data.folder import open_folder

    rng = np.random.default_rng(0)
    for i in range(DIFFERENT):
        path = Path(folder) / str(i % 2) / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        # Smooth, as photographs are: noise would take longer to decode.
        small = rng.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(small).resize(PHOTOGRAPH, Image.Resampling.BICUBIC).save(path, quality=90)
    return open_folder(folder, "").subset(np.resize(np.arange(DIFFERENT), count), "train")


@functools.cache
def _opened(kind: str, size: int, count: int) -> tuple["Source", tempfile.TemporaryDirectory]:
    folder = tempfile.TemporaryDirectory()
    source = arrays(size, count) if kind == "arrays" else files(folder.name, count)
    return source, folder  # which is there as long as it is named


def _network(backbone: str, size: int, setting: Setting) -> tuple[Any, Any, Any]:
    """Returns a network, its preprocessing and an extraction."""
    import os

    from experiments.benchmark.synthetic import random_network
    from tl.features.network import Extraction

    network = random_network(backbone, size)
    dtype, batch_size = setting
    threads = os.cpu_count() or 1
    extraction = Extraction(("pooled",), dtype=dtype, batch_size=batch_size, threads=threads)
    return network, network.spec.preprocessing, extraction


def extraction(
    backbone: str, size: int, setting: Setting, count: int, kind: str
) -> Callable[[], None]:
    """Extraction of images from `arrays` or `files`; its features are thrown away."""
    from tl.features.network import compute_rows

    network, preprocessing, asked = _network(backbone, size, setting)
    source, _ = _opened(kind, size, count)

    def work() -> None:
        computed = compute_rows(network, source, preprocessing, asked, np.arange(count), log=str)
        _exhaust(computed)

    work()
    return work


def compute(backbone: str, size: int, setting: Setting, count: int) -> Callable[[], None]:
    """The same program as often as `extraction` calls it, on images that lie on the device."""
    import jax

    from experiments.benchmark import gpu_ours

    lowered, arguments = gpu_ours.lower_features(backbone, size, setting)
    program = lowered.compile()

    def work() -> None:
        for _ in range(-(-count // setting[1])):
            result = program(*arguments)
        jax.block_until_ready(result)

    work()
    return work


def loading(
    backbone: str, size: int, setting: Setting, count: int, kind: str
) -> Callable[[], None]:
    """What `extraction` does on the host before the device has the images."""
    from tl.data.loader import batches
    from tl.data.transforms import host_and_device

    _, preprocessing, asked = _network(backbone, size, setting)
    source, _ = _opened(kind, size, count)
    transform = host_and_device(source.image_shape, preprocessing)[0]

    def work() -> None:
        _exhaust(batches(source, setting[1], transform=transform, threads=asked.threads))

    return work


def _exhaust(iterator: Iterator[Any]) -> None:
    for _ in iterator:
        pass
