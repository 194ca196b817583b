"""Extracts the features of a frozen network from a source into a feature store."""

import concurrent.futures
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from tl import hosts, tree
from tl.data import sources
from tl.data.sources import Source
from tl.errors import UserError
from tl.features.fingerprint import Fingerprint, code_version, fingerprint
from tl.features.network import Computed, Extraction, Features, compute_rows, widths
from tl.features.store import NO_LABEL, UNWRITTEN, FeatureStore, nearest_store
from tl.files import Log, progress_options
from tl.weights.load import Pretrained
from tl.weights.spec import Preprocessing

CHUNK_ROWS = 1024
CHUNK_BYTES = 64 << 20  # of all endpoints together; wide ones get shorter chunks
# Largest difference allowed when a row is computed again, as a share of the row's largest value.
# Another batch may add the same sums in another order, and bfloat16 keeps 8 bits.
VERIFY_TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}


def extract(
    network: Pretrained,
    source: Source,
    preprocessing: Preprocessing,
    extraction: Extraction,
    root: str | Path,
    *,
    verify_rows: int = 0,
    chunk_rows: int | None = None,
    log: Log = print,
) -> FeatureStore:
    """Returns the store of a source's features, after computing the chunks that are missing.

    Args:
      network: the frozen network.
      source: one split, see `tl.data.sources`.
      preprocessing: how the network's images are prepared.
      extraction: what to extract, and how.
      root: directory of all stores.
      verify_rows: number of rows, chosen at random, to compute again and compare with the store.
      chunk_rows: rows of a chunk of a new store; default CHUNK_ROWS, or fewer to fit CHUNK_BYTES.
      log: takes a line of text.

    Raises:
      UserError: no such endpoint; features that are not finite; too little memory for one image on
        each device; a store that cannot be written or has another fingerprint; a row that differs
        when it is computed again.
    """
    sizes = widths(network, preprocessing.size, extraction, source)
    identity = _fingerprint(network, source, preprocessing, extraction)
    known = nearest_store(root, identity)
    chunk_rows = chunk_rows or min(CHUNK_ROWS, max(1, CHUNK_BYTES // (4 * sum(sizes.values()))))
    store = FeatureStore.open(root, identity, len(source), sizes, source.id_bytes, chunk_rows)
    compute = functools.partial(compute_rows, network, source, preprocessing, extraction, log=log)
    if missing := store.missing():
        _announce(store, len(missing), known, log)
        _fill(store, hosts.share_of_process(missing), compute, log)
    else:
        log(f"features reused: {store.path}")
    hosts.barrier(store.path.name)  # all processes wait, even those with nothing to compute
    store.check_complete()
    if without := int(np.sum(store.labels() == NO_LABEL)):
        log(
            f"{without} of {store.num_rows} images could not be decoded or have no label, and are "
            "left out"
        )
    if verify_rows:
        _verify(store, verify_rows, compute, VERIFY_TOLERANCE[extraction.dtype], log)
    return store


def extract_parts(
    network: Pretrained,
    parts: Mapping[str, tuple[Source, Int[np.ndarray, " _"]]],
    preprocessing: Preprocessing,
    extraction: Extraction,
    root: str | Path,
    *,
    log: Log = print,
) -> dict[str, FeatureStore]:
    """Returns the complete feature store of each part; parts of one source share a store.

    Args:
      parts: name to (source, its rows); every row of the source is extracted.
      network, preprocessing, extraction, root, log: as in `extract`.

    Raises:
      UserError: as `extract`.
    """
    by_source = {id(source): source for source, _ in parts.values()}
    stores = {
        key: extract(network, source, preprocessing, extraction, root, log=log)
        for key, source in by_source.items()
    }
    return {part: stores[id(source)] for part, (source, _) in parts.items()}


def _fingerprint(
    network: Pretrained, source: Source, preprocessing: Preprocessing, extraction: Extraction
) -> Fingerprint:
    module: Any = network.model
    arguments = {
        field.name: str(getattr(module, field.name))
        for field in dataclasses.fields(module)
        # `extraction.dtype` replaces the module's, nothing is dropped, and nothing goes backward.
        if field.name not in ("parent", "name", "dtype", "dropout", "drop_path", "remat")
    }
    return fingerprint(
        weights={
            "name": network.spec.name,
            "sha256": network.sha256,
            "variables": tree.digest(network.variables),
        },
        model={"class": type(network.model).__name__, **arguments},
        preprocessing=preprocessing.described(),
        data={**sources.identity(source), "count": len(source)},
        endpoints=sorted(extraction.endpoints),
        pooling=extraction.pooling,
        dtype=extraction.dtype,
        folded=extraction.fold_batch_norm,
        code=code_version(),
    )


def _announce(
    store: FeatureStore,
    missing: int,
    known: tuple[Path, list[str]] | None,
    log: Log,
) -> None:
    chunks = -(-store.num_rows // store.chunk_rows)
    if missing < chunks:
        log(f"features resumed: {missing} of {chunks} chunks are missing in {store.path}")
        return
    log(f"features new: {store.path}")
    if known:
        path, lines = known
        log(f"the nearest features of the same images, {path}, differ in\n  " + "\n  ".join(lines))


def _fill(
    store: FeatureStore,
    chunks: Sequence[int],
    compute: Callable[[np.ndarray], Computed],
    log: Log,
) -> None:
    """Computes and writes chunks; one is written while the devices compute the next."""
    rows = np.flatnonzero(np.isin(np.arange(store.num_rows) // store.chunk_rows, chunks))
    start = time.perf_counter()
    written = None
    with (
        tqdm(total=len(rows), desc="features", unit=" images", **progress_options()) as bar,
        concurrent.futures.ThreadPoolExecutor(1) as writer,
    ):
        for chunk in _complete_chunks(store, _with_progress(compute(rows), bar)):
            if written:
                written.result()
            written = writer.submit(store.write, *chunk)
        if written:
            written.result()
    seconds = time.perf_counter() - start
    log(
        f"features extracted: {len(rows)} images in {seconds:.1f} s "
        f"({len(rows) / seconds:.0f} images/s)"
    )


def _with_progress(computed: Computed, bar: tqdm) -> Computed:
    for batch, features in computed:
        bar.update(int(np.sum(batch["mask"])))
        yield batch, features


def _complete_chunks(
    store: FeatureStore, computed: Computed
) -> Iterator[tuple[int, Features, np.ndarray, list[str]]]:
    """Collects rows by chunk, and yields the arguments of `store.write` for each complete one."""
    growing = {}
    for batch, features in computed:
        chunk_of = np.where(batch["mask"], batch["index"] // store.chunk_rows, -1)
        for chunk in np.unique(chunk_of[batch["mask"]]).tolist():
            rows = store.chunk_slice(chunk)
            if chunk not in growing:
                count = rows.stop - rows.start
                values = {
                    name: np.empty((count, d), np.float32) for name, d in store.widths.items()
                }
                growing[chunk] = values, np.full(count, UNWRITTEN, np.int32), [""] * count
            values, labels, ids = growing[chunk]
            taken = np.flatnonzero(chunk_of == chunk)
            at = batch["index"][taken] - rows.start
            for name in values:
                values[name][at] = features[name][taken]
            labels[at] = batch["label"][taken]
            for here, there in zip(at, taken):
                ids[here] = batch["id"][there]
            if UNWRITTEN not in labels:
                yield chunk, *growing.pop(chunk)


def _verify(
    store: FeatureStore,
    count: int,
    compute: Callable[[np.ndarray], Computed],
    tolerance: float,
    log: Log,
) -> None:
    """Raises UserError if rows that are computed again differ from the stored ones."""
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(store.num_rows, min(count, store.num_rows), replace=False))
    largest = 0.0
    for batch, features in compute(rows):
        index = batch["index"][batch["mask"]]
        for name, values in features.items():
            values, stored = values[batch["mask"]], store.read(name, index)
            errors = np.abs(values - stored)
            relative = errors.max(axis=1) / np.maximum(np.abs(stored).max(axis=1), 1e-30)
            worst = np.argmax(relative)
            largest = max(largest, relative[worst])
            # Negated, so that a stored NaN fails.
            if not relative[worst] <= tolerance:
                column = np.argmax(errors[worst])
                raise UserError(
                    f"row {index[worst]} of endpoint {name!r} does not verify: stored "
                    f"{stored[worst, column]}, computed again {values[worst, column]} in column "
                    f"{column}, a difference of {relative[worst]:.1e} of the row's largest value "
                    f"where {tolerance:.0e} is allowed; delete {store.path} and extract again"
                )
    log(f"features verified: {len(rows)} rows computed again, largest difference {largest:.1e}")
