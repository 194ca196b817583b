"""Batches of one static shape from a source, loaded by Grain's threads in a repeatable order."""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

import grain.python as grain
import numpy as np

from tl.errors import UserError

THREADS = min(16, os.cpu_count() or 1)

# Rows that one thread loads at a time: enough to hide the cost of handing work to a thread, few
# enough that every thread has some of each batch.
_ROWS_PER_TASK = 32


def epoch_order(num_rows: int, shuffle_seed: int | None, epoch: int = 0) -> np.ndarray:
    """Returns the positions 0 .. num_rows - 1 in the order of one epoch, int64 [num_rows].

    A permutation drawn from (shuffle_seed, epoch) alone; ascending where shuffle_seed is None.
    """
    if shuffle_seed is None:
        return np.arange(num_rows)
    return np.random.default_rng((shuffle_seed, epoch)).permutation(num_rows)


def batches(
    source,
    batch_size: int,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    transform: Callable[[np.ndarray], np.ndarray] | None = None,
    shuffle_seed: int | None = None,
    epoch: int = 0,
    threads: int = THREADS,
) -> Iterator[dict]:
    """Yields every chosen row once, in batches; the last one is padded to the same size.

    About one batch is loaded ahead, so memory is O(batch_size). Closing the iterator, or dropping
    it, stops the threads.

    Args:
      source: see `tl.data.sources.Source`; `examples(rows)` is used where it has one.
      batch_size: rows a batch, >= 1.
      indices: int [n], rows of the source to take, in this order; all of them by default.
      transform: image -> image, on the host, in the loading threads; its results must share one
        shape.
      shuffle_seed: >= 0 to visit the rows in an order of (shuffle_seed, epoch); None keeps theirs.
      epoch: >= 0.
      threads: that load and transform; 0 loads in the caller's.

    Yields:
      image: uint8 [batch_size, H, W, 3]. label: int32 [batch_size], -1 for a left-out image.
      index: int64 [batch_size], the row in `source`. id: list of batch_size str. mask: bool
      [batch_size], False for padding, whose label and index are -1 and whose id is ''.

    Raises:
      UserError: images of several shapes, batch_size < 1, or what the source raises for an image.
    """
    if batch_size < 1:
        raise UserError(f"the batch size must be at least 1; got {batch_size}")
    rows = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
    rows = rows[epoch_order(len(rows), shuffle_seed, epoch)]
    tasks = [rows[at : at + _ROWS_PER_TASK].tolist() for at in range(0, len(rows), _ROWS_PER_TASK)]

    read = getattr(source, "examples", None) or (lambda task: (source[row] for row in task))

    def load(task: list[int]) -> list[dict] | UserError:
        loaded = []
        try:
            for index, example in zip(task, read(task), strict=True):
                image = example["image"] if transform is None else transform(example["image"])
                loaded.append({**example, "image": image, "index": index})
        except UserError as error:
            return error  # Grain would add lines of its own to the text of what is raised
        return loaded

    ahead = max(threads, -(-batch_size // _ROWS_PER_TASK))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    tasks = iter(grain.MapDataset.source(tasks).map(load).to_iter_dataset(options))
    try:
        examples = chain.from_iterable(map(_or_raise, tasks))
        while chosen := list(islice(examples, batch_size)):
            yield _collate(chosen, batch_size)
    finally:
        tasks.close()


def _or_raise(loaded: list[dict] | UserError) -> list[dict]:
    if isinstance(loaded, UserError):
        raise loaded
    return loaded


def _collate(examples: list[dict], batch_size: int) -> dict:
    shapes = {example["image"].shape for example in examples}
    if len(shapes) > 1:
        raise UserError(
            f"the images of a batch must share one shape, but {sorted(shapes)[:4]} came; "
            "images of several sizes need a transform on the host"
        )

    def column(name: str, shape: tuple[int, ...], dtype, fill: int) -> np.ndarray:
        values = np.full((batch_size, *shape), fill, dtype)
        for row, example in enumerate(examples):
            values[row] = example[name]
        return values

    return {
        "image": column("image", shapes.pop(), np.uint8, 0),
        "label": column("label", (), np.int32, -1),
        "index": column("index", (), np.int64, -1),
        "id": [example["id"] for example in examples] + [""] * (batch_size - len(examples)),
        "mask": np.arange(batch_size) < len(examples),
    }
