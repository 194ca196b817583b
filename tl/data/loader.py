"""Batches of one static shape from a source, loaded by Grain's threads in a repeatable order."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

import grain.python as grain
import numpy as np
from jaxtyping import Int, Int64
from numpy.typing import DTypeLike

from tl.data.encoded import Example
from tl.data.sources import Examples
from tl.errors import UserError

T = TypeVar("T")
Batch = dict[str, Any]  # see `batches`

THREADS = min(16, os.cpu_count() or 1)

# Rows that one thread loads at a time, at least: enough to hide the cost of handing it work and of
# a read, for which ArrayRecord starts threads of its own.
_LEAST_ROWS_PER_TASK = 32


def epoch_order(
    num_rows: int, shuffle_seed: int | None, epoch: int = 0
) -> Int64[np.ndarray, " {num_rows}"]:
    """Returns the positions 0 .. num_rows - 1 in the order of one epoch.

    A permutation drawn from (shuffle_seed, epoch) alone; ascending where shuffle_seed is None.
    """
    if shuffle_seed is None:
        return np.arange(num_rows)
    return np.random.default_rng((shuffle_seed, epoch)).permutation(num_rows)


def batches(
    source: Examples,
    batch_size: int,
    *,
    indices: Sequence[int] | Int[np.ndarray, " n"] | None = None,
    transform: Callable[[np.ndarray], np.ndarray] | None = None,
    shuffle_seed: int | None = None,
    epoch: int = 0,
    share: tuple[int, int] = (0, 1),
    threads: int = THREADS,
) -> Iterator[Batch]:
    """Yields every chosen row once, in batches; the last one is padded to the same size.

    About one batch is loaded ahead, so memory is O(batch_size). Closing the iterator, or dropping
    it, stops the threads.

    Args:
      source: see `tl.data.sources.Examples`; `examples(rows)` is used where it has one.
      batch_size: rows of a batch of all processes together, >= 1, a multiple of their number.
      indices: int [n], rows of the source to take, in this order; all of them by default.
      transform: image -> image, on the host, in the loading threads; its results must share one
        shape.
      shuffle_seed: >= 0 to visit the rows in an order of (shuffle_seed, epoch); None keeps theirs.
      epoch: >= 0.
      share: (i, n): this process loads the i-th of n runs of equal length of each batch, as in
        `stream`; every process gets the same number of batches.
      threads: that load and transform; 0 loads in the caller's. Without a transform there is but
        the decoding of small images, most of it under Python's lock: one thread then does it,
        for CIFAR-10 at 6,700 images/s, where four get in each other's way: 4,700.

    Yields:
      image: [b, H, W, 3] of the images' type, b = batch_size / n. label: int32 [b], -1 for an image
      that is left out. index: int64 [b], the row in `source`. id: list of b str. mask: bool [b],
      False for padding, whose label and index are -1 and whose id is ''.

    Raises:
      UserError: images of several shapes, batch_size < 1, or what the source raises for an image.
    """
    _check_batch_size(batch_size)
    if batch_size % share[1]:
        raise ValueError(f"expected a batch of a multiple of {share[1]}, got {batch_size}")
    rows = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
    rows = rows[epoch_order(len(rows), shuffle_seed, epoch)]
    if transform is None:
        threads = min(threads, 1)
    # No more than leaves every thread some of each batch.
    size = max(_LEAST_ROWS_PER_TASK, -(-batch_size // max(1, threads)))
    part = batch_size // share[1]
    own = [
        rows[at : at + batch_size][share[0] * part :][:part]
        for at in range(0, len(rows), batch_size)
    ]
    # Where padding is all that falls to this process, a row is loaded for its shape.
    chosen = np.concatenate([rows[:0], *(its if len(its) else rows[:1] for its in own)])
    tasks = [chosen[at : at + size].tolist() for at in range(0, len(chosen), size)]
    read = _reader(source)

    def load(task: list[int]) -> list[dict[str, Any]] | UserError:
        loaded = []
        try:
            for index, example in zip(task, read(task), strict=True):
                image = example["image"] if transform is None else transform(example["image"])
                loaded.append({**example, "image": image, "index": index})
        except UserError as error:
            return error  # Grain would add lines of its own to the text of what is raised
        return loaded

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(1, threads))
    loaded = iter(grain.MapDataset.source(tasks).map(load).to_iter_dataset(options))
    try:
        examples = chain.from_iterable(map(_or_raise, loaded))
        for count in map(len, own):
            yield _collate(list(islice(examples, max(1, count))), part, count)
    finally:
        loaded.close()


def stream(
    source: Examples,
    rows: Int[np.ndarray, " n"],
    batch_size: int,
    *,
    seed: int,
    transform: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    position: dict[str, Any] | None = None,
    share: tuple[int, int] = (0, 1),
    threads: int = THREADS,
) -> Generator[tuple[Batch, dict[str, Any]], None, None]:
    """Yields batches for ever: epoch after epoch, each in an order of its own, none cut short.

    Batch b is determined by (rows, batch_size, seed, b): threads, processes and restarts do not
    show in it. It may end one epoch and begin the next. Closing the iterator stops the threads.

    Args:
      source: see `tl.data.sources.Examples`.
      rows: int [n] of the source, n >= 1; each comes once an epoch.
      batch_size: rows of a batch of all processes together, >= 1.
      seed: >= 0.
      transform: (image, generator) -> image, on the host, in the loading threads; its results
        must share one shape. The generator belongs to the example's place in the stream.
      position: after which batch to begin, as an earlier stream gave it; None for the first.
      share: (i, n): this process loads the i-th of n runs of equal length of each batch: side by
        side on the devices of n processes they are the batch.
      threads: that load and transform, each a batch at a time; 0 loads in the caller's.

    Yields:
      The batch: image [b, ...] of the transform's type, label int32 [b], index int64 [b], id list
      of b str, and mask bool [b], False where the image was left out (its label is -1); b is
      batch_size / n. And the position after it, a small JSON value.

    Raises:
      UserError: batch_size < 1, or what the source raises for an image.
    """
    _check_batch_size(batch_size)
    read, size = _reader(source), batch_size // share[1]
    places = range(share[0] * size, (share[0] + 1) * size)

    def load(number: int, chosen: Int[np.ndarray, " n"]) -> Batch | UserError:
        own = chosen[places.start : places.stop].tolist()
        examples = []
        try:
            for place, index, example in zip(places, own, read(own), strict=True):
                rng = np.random.default_rng((seed, number, place))
                image = transform(example["image"], rng)
                examples.append({**example, "image": image, "index": index})
            batch = _collate(examples, len(examples), len(examples))
        except UserError as error:
            return error  # as above
        return {**batch, "mask": batch["label"] >= 0}

    order = grain.MapDataset.source(np.asarray(rows, np.int64)).seed(seed).shuffle().repeat()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * max(1, threads))
    # There is no remainder; kept, Grain would round its count up, too far for batches of one.
    order = order.batch(batch_size, drop_remainder=True)
    loaded = iter(order.map_with_index(load).to_iter_dataset(options))
    if position is not None:
        loaded.set_state(position)
    try:
        for batch in loaded:
            yield _or_raise(batch), loaded.get_state()
    finally:
        loaded.close()


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"the batch size must be at least 1; got {batch_size}")


def _reader(source: Examples) -> Callable[[Sequence[int]], Iterable[Example]]:
    return getattr(source, "examples", None) or (lambda rows: (source[row] for row in rows))


def _or_raise(loaded: T | UserError) -> T:
    if isinstance(loaded, UserError):
        raise loaded
    return loaded


def _collate(examples: list[dict[str, Any]], batch_size: int, count: int) -> Batch:
    """Returns the first `count` examples as a batch, padded; one there must be, for its shape."""
    shapes = {example["image"].shape for example in examples}
    if len(shapes) > 1:
        raise UserError(
            f"the images of a batch must share one shape, but {sorted(shapes)[:4]} came; "
            "images of several sizes need a transform on the host"
        )

    def column(name: str, shape: tuple[int, ...], dtype: DTypeLike, fill: int) -> np.ndarray:
        values = np.full((batch_size, *shape), fill, dtype)
        for row, example in enumerate(examples[:count]):
            values[row] = example[name]
        return values

    return {
        "image": column("image", shapes.pop(), examples[0]["image"].dtype, 0),
        "label": column("label", (), np.int32, -1),
        "index": column("index", (), np.int64, -1),
        "id": [example["id"] for example in examples[:count]] + [""] * (batch_size - count),
        "mask": np.arange(batch_size) < count,
    }
