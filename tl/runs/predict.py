"""Predicts on images without labels: from listed paths to a table of classes or of features."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float
from tqdm import tqdm

from tl import hosts
from tl.data.images import Images
from tl.data.listing import Listed
from tl.errors import UserError
from tl.features.network import Extraction
from tl.files import Log, progress_options, read_json, write_json
from tl.inference import rows as tables
from tl.inference.model import Model
from tl.results import formats
from tl.runs.evaluate import LabelledOutputs, conclude
from tl.runs.workdir import begin

# Images of one part of the output, which is what a kill can lose. Between two parts the devices
# wait for the first images of the next.
CHUNK_IMAGES = 8192
# The same of features, which are held in memory for a whole part, and of what several processes
# divide.
SMALL_CHUNK_IMAGES = 1024


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to write of each image.

    Attributes:
      top_k: the number of classes, at most as many as there are.
      features: endpoints to write instead of classes; empty for classes.
      pooling: of these endpoints.
    """

    top_k: int = 5
    features: tuple[str, ...] = ()
    pooling: str = "mean"


class Score:
    """Collects logits with their labels, for the page of an evaluation."""

    def __init__(self) -> None:
        self._items: list[Listed] = []
        self._places = [np.zeros(0, np.int64)]  # among the items, of what this process computes
        self._logits: list[np.ndarray] = []

    def listed(self, items: Sequence[Listed]) -> None:
        """Takes the next images, whichever process computes them."""
        self._items += items

    def add(self, place: int, logits: Float[np.ndarray, "b c"], errors: Sequence[str]) -> None:
        """Takes the logits of the images from a place on; those with an error are left out."""
        good = np.array([not error for error in errors])
        self._places.append(place + np.flatnonzero(good))
        self._logits.append(logits[good])

    def conclude(self, model: Model, workdir: Path, start: float, log: Log) -> dict[str, Any]:
        """Writes an evaluation's `result.json` and page into a folder and returns the former.

        Args:
          model: whose logits.
          workdir: the run's folder, see `tl.runs.workdir.start`.
          start: when the run began, by `time.perf_counter`.
          log: takes a line of text.

        Raises:
          UserError: no image could be decoded; labels that the model has no class for.
        """
        own = np.concatenate([np.zeros((0, len(model.classes)), np.float32), *self._logits])
        places = np.concatenate(hosts.gather(np.concatenate(self._places)))
        order = np.argsort(places)
        logits = np.concatenate(hosts.gather(own))[order]
        items = [self._items[place] for place in places[order]]
        if not items:
            raise UserError("no image could be decoded, so there is nothing to score")
        classes = sorted({item.label for item in items})
        source = Images([item.path for item in items])
        described = {
            "name": "listed images",
            "version": "",
            "splits": {"test": ""},
            "classes": len(classes),
            "test": len(items),
            "left_out": {"test": len(self._items) - len(items)},
        }
        found = LabelledOutputs(
            ids=[item.name for item in items],
            labels=np.array([classes.index(item.label) for item in items]),
            classes=classes,
            logits=logits,
            features=lambda rows: logits[rows],
            image=lambda row: source[row]["image"],
        )
        begin(workdir)
        return conclude(model, found, described, workdir, True, start, log)


def run(
    model: Model,
    listed: Iterator[Listed],
    wanted: Wanted,
    output: Path | None,
    *,
    overwrite: bool = False,
    score: Score | None = None,
    log: Log = print,
) -> None:
    """Writes a row for each image, in order; an image that cannot be decoded is a row too.

    A file is written in parts beside it, which the same command takes up after a kill, and appears
    whole. Memory does not grow with the number of images. Of several processes each computes some
    of the parts, and process 0 joins them.

    Args:
      model: see `tl.inference.model.load`.
      listed: paths, read as they are needed.
      wanted: what to write.
      output: a file whose suffix says the format, without one a feature store; None for CSV on
        standard output.
      overwrite: whether an existing file may be replaced.
      score: takes the logits and labels of each image that could be decoded; every image is then
        computed, also where its row is there.
      log: takes a line of text.

    Raises:
      UserError: an output that cannot be written or is there; no such endpoint; a model without a
        head, asked for classes; several processes without a file.
    """
    extraction = _extraction(model, wanted)
    process, processes = hosts.process_share()
    if processes > 1 and not output:
        raise UserError("several processes write parts of a file: give --output=FILE")
    done, found, failed, began = 0, 0, 0, time.perf_counter()
    made_by = _identity(model, wanted)
    with contextlib.ExitStack() as held:
        writer = None
        if output:
            writer = held.enter_context(_Output(output, made_by, wanted, overwrite))
        batch_size = model.extraction.batch_size
        size = SMALL_CHUNK_IMAGES if wanted.features or processes > 1 else CHUNK_IMAGES
        size = max(1, size // batch_size) * batch_size
        chunks = _chunks(listed, size)
        first = next(chunks)
        batch_size = min(batch_size, len(first))
        with tqdm(desc="images", unit=" images", **progress_options(known=False)) as bar:
            for number, chunk in enumerate(itertools.chain([first], chunks)):
                if score:
                    score.listed(chunk)
                stem = writer.expect(number, chunk) if writer else ""
                if number % processes != process:
                    continue
                if writer and score is None and (there := writer.count(stem)) is not None:
                    found, failed = found + len(chunk), failed + there
                    continue
                bad = 0
                rows = []
                place = number * size
                for batch in _rows(model, chunk, wanted, extraction, batch_size, score, place, log):
                    bar.update(len(batch))
                    bad += sum(bool(row["error"]) for row in batch)
                    if writer:
                        rows += batch
                        continue
                    header = number == 0 and not done
                    tables.write_lines(batch, sys.stdout, tables.FORMAT_OF_STDOUT, header)
                    sys.stdout.flush()
                    done += len(batch)
                if writer:
                    writer.write(stem, rows, bad)
                    done += len(rows)
                failed += bad
        if writer:
            writer.finish()
    done, found, failed = np.sum(hosts.gather(np.array([[done, found, failed]])), axis=(0, 1))
    seconds = time.perf_counter() - began
    summary = f"{formats.plural(done, 'image')} in {seconds:.1f} s"
    if done:
        summary += f" ({done / seconds:.3g} images/s)"
    if found:  # they took this process no time
        summary += f"; {found:,} more were there from before it was stopped"
    log(summary + (f"; {failed:,} could not be decoded" if failed else ""))
    if output:
        log(f"written: {output}")


def _extraction(model: Model, wanted: Wanted) -> Extraction:
    if wanted.features:
        return model.extracting(wanted.features, wanted.pooling)
    model.check_head()
    if not wanted.top_k >= 1:
        raise UserError(f"expected at least 1 class, got {wanted.top_k}", field="top_k")
    return model.extraction


def _chunks(listed: Iterator[Listed], size: int) -> Iterator[list[Listed]]:
    while chunk := list(itertools.islice(listed, size)):
        yield chunk


def _rows(
    model: Model,
    chunk: Sequence[Listed],
    wanted: Wanted,
    extraction: Extraction,
    batch_size: int,
    score: Score | None,
    place: int,
    log: Log,
) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of a chunk, batch by batch; `place` is that of the chunk's first image."""
    paths = [item.path for item in chunk]
    outputs = model.outputs(paths, extraction, skip_corrupt=True, batch_size=batch_size, log=log)
    for batch in outputs:
        errors = [batch.errors.get(place, "") for place in range(len(batch.ids))]
        names = [item.name for item in chunk[batch.start : batch.start + len(batch.ids)]]
        if wanted.features:
            bad = np.array([bool(error) for error in errors])[:, None]
            values = {name: np.where(bad, np.nan, v) for name, v in batch.values.items()}
            yield [
                {"path": path, **{name: v[place] for name, v in values.items()}, "error": error}
                for place, (path, error) in enumerate(zip(names, errors))
            ]
            continue
        logits = model.logits(batch.values)
        if score:
            score.add(place + batch.start, logits, errors)
        probabilities = model.probabilities(logits)
        k = min(wanted.top_k, len(model.classes))
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        yield [
            tables.predicted_row(path, [model.classes[c] for c in chosen], p[chosen], error, k)
            for path, p, chosen, error in zip(names, probabilities, best, errors)
        ]


def _identity(model: Model, wanted: Wanted) -> dict[str, Any]:
    """Returns what the parts of an output must share."""
    return json.loads(
        json.dumps(
            {
                "weights": model.network.sha256,
                "model": model.name,
                "endpoint": model.endpoint,
                "temperature": model.temperature,
                "preprocessing": model.preprocessing.described(),
                "classes": model.classes,
                "wanted": dataclasses.asdict(wanted),
                "batch_size": model.extraction.batch_size,
            }
        )
    )


def _stem(number: int, chunk: Sequence[Listed]) -> str:
    """Returns the name of a part: its number and a digest of its images' paths, sizes and times."""
    digest = hashlib.sha256()
    for item in chunk:
        try:
            status = os.stat(item.path)
            state = f"{status.st_size} {status.st_mtime_ns}"
        except (OSError, ValueError):  # its row will say why it cannot be read
            state = ""
        digest.update(f"{item.path}\0{state}\0".encode(errors="replace"))
    return f"{number:06}-{digest.hexdigest()[:16]}"


class _Output:
    """A file or store written in parts, by one command at a time: enter it before all else.

    Of several processes the first one looks after the folder of the parts, and joins them.
    """

    def __init__(self, path: Path, identity: dict[str, Any], wanted: Wanted, overwrite: bool):
        known = tables.FEATURES if wanted.features else tables.PREDICTIONS
        tables.check_suffix(path, known)
        if path.suffix == ".npy" and len(wanted.features) > 1:
            raise UserError(f"a .npy file holds one endpoint, got {', '.join(wanted.features)}")
        self._path = path
        self._made_by = identity
        self._overwrite = overwrite
        self._folder = path.with_name(f"{path.name}.parts")
        self._lock = FileLock(self._folder / ".lock", timeout=0)
        self._stems: list[str] = []
        self._written: dict[str, Path] = {}

    def __enter__(self) -> "_Output":
        if hosts.is_first():
            self._open()
        hosts.barrier("parts are open")
        self._written = self._found()
        return self

    def _open(self) -> None:
        self._check_free()
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with contextlib.suppress(NotImplementedError):  # a file system without locks
                    self._lock.acquire()
            except Timeout:
                raise UserError(
                    f"another process is writing {self._path}; wait until it ends, or give another "
                    "--output"
                ) from None
        try:
            self._check_free()  # another process may have ended since
            self._take_up()
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _check_free(self) -> None:
        path = self._path
        if path.exists() and not self._overwrite:
            raise UserError(f"{path} is there; give another --output, or --overwrite to replace it")
        if path.is_dir() and not (path.suffix == tables.STORE and (path / "meta.json").is_file()):
            raise UserError(f"{path} is a folder and no feature store, so it is not replaced")

    def _take_up(self) -> None:
        """Keeps the parts of an earlier command, or removes those of another prediction."""
        made_by = self._folder / "made_by.json"
        others = [file for file in self._folder.iterdir() if file.name[0] != "."]
        if others and read_json(made_by) != self._made_by:
            if not self._overwrite:
                raise UserError(
                    f"{self._folder} holds parts of another prediction; remove it, or replace it "
                    "with --overwrite"
                )
            for file in others:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        with self._writing():
            write_json(made_by, self._made_by)

    def _found(self) -> dict[str, Path]:
        written = self._folder.glob(f"*-*-*{self._path.suffix}")
        return {part.stem.rpartition("-")[0]: part for part in written}

    def expect(self, number: int, chunk: Sequence[Listed]) -> str:
        """Returns the name of a chunk's part, which some process has written or will write."""
        self._stems.append(_stem(number, chunk))
        return self._stems[-1]

    def count(self, stem: str) -> int | None:
        """Returns how many rows of a chunk failed, if an earlier command wrote its part."""
        part = self._written.get(stem)
        return int(part.stem.rpartition("-")[2]) if part else None

    def write(self, stem: str, rows: Sequence[tables.Row], failed: int) -> None:
        """Writes the part of a chunk."""
        part = self._folder / f"{stem}-{failed}{self._path.suffix}"
        with self._writing():
            tables.write_part(rows, part)

    def finish(self) -> None:
        """Joins the parts into the file and removes them."""
        hosts.barrier("parts are written")
        if not hosts.is_first():
            return
        written = self._found()
        with self._writing():
            parts = [written[stem] for stem in self._stems]
            tables.join_parts(parts, self._path, self._made_by)
            shutil.rmtree(self._folder)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._path} cannot be written: {error.strerror or error}; mend that and give "
                "the same command again"
            ) from error
