"""Logs of training: metrics.jsonl, TensorBoard events, a progress bar."""

import contextlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tl import paths
from tl.files import append_jsonl, progress_options, replacing
from tl.storage import copies
from tl.storage.mirror import scratch

RECORDS = "metrics.jsonl"
_FLUSH_SECONDS = 5
_SEND_SECONDS = 30.0


class RunLog:
    """Writes scalars by step to `metrics.jsonl`, and as TensorBoard events to `tensorboard/`.

    A context manager, which writes out at its end what is still in memory.
    """

    def __init__(
        self, workdir: str | Path, resume_step: int | None = None, *, enabled: bool = True
    ):
        """Opens the log of a run, and drops records of steps that will be done again.

        Args:
          workdir: the run's folder.
          resume_step: step that the run goes on from, whose record stays; None to drop all records.
          enabled: whether to write anything.
        """
        self._events: Any = None
        self._here: Path | None = None
        if not enabled:
            return
        from tensorboardX import SummaryWriter  # here, since only training needs it

        logging.getLogger("tensorboardX").setLevel(logging.ERROR)  # each NaN would be a warning
        self._workdir, self._sent = paths.as_path(workdir), time.monotonic()
        if paths.is_remote(workdir):
            # Files there cannot grow: they grow here, and are sent now and then.
            self._here = scratch(self._workdir, "logs")
            if (there := self._workdir / RECORDS).exists():
                (self._here / RECORDS).write_bytes(there.read_bytes())
        folder = self._here or self._workdir
        self._records = folder / RECORDS
        _drop_after(self._records, -1 if resume_step is None else resume_step)
        # Event files are named by the second and the step. A file with the same name is replaced;
        # it holds only events of steps that will be done again.
        self._events = SummaryWriter(
            str(folder / "tensorboard"),
            purge_step=0 if resume_step is None else resume_step + 1,
            flush_secs=_FLUSH_SECONDS,
            filename_suffix="" if resume_step is None else f".{resume_step}",
        )

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(Exception):  # it would hide what went wrong in the block
            self.close()

    def write(self, step: int, scalars: Mapping[str, float], **other: Any) -> None:
        """Writes a record.

        Args:
          step: updates done.
          scalars: name to value, such as `train/loss`, `val/top1`.
          **other: further JSON values of the line in `metrics.jsonl`.
        """
        if self._events is None:
            return
        append_jsonl(self._records, {"step": step, **scalars, **other})
        for name, value in scalars.items():
            self._events.add_scalar(name, float(value), step)
        if time.monotonic() - self._sent > _SEND_SECONDS:
            self._sent = time.monotonic()
            with contextlib.suppress(Exception):  # before a checkpoint it has to succeed
                self.flush()

    def flush(self) -> None:
        """Brings what is written so far to an object store."""
        if self._events is not None and self._here is not None:
            self._events.flush()
            copies.send(self._here, self._workdir)
            self._sent = time.monotonic()

    def close(self) -> None:
        """Writes out the events; calling it again does nothing."""
        if self._events is not None:
            self._events.close()
            self.flush()
            self._events = None
        if self._here is not None:
            shutil.rmtree(self._here, ignore_errors=True)


def _drop_after(path: Path, step: int) -> None:
    """Drops the records after a step, and an incomplete last line."""
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    with replacing(path) as partial:
        partial.write_text("".join(line for line in lines if _step(line) <= step))


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"] if line.endswith("\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")


class ProgressBar(tqdm):
    """A progress bar of images, with the loss, images a second and the time left."""

    def update(self, n: float = 1, loss: float | None = None) -> bool | None:
        """Adds n images.

        Args:
          n: images of the step.
          loss: to show from now on; None keeps the one shown.
        """
        # Reading the loss may wait for the device, and lines do not show it.
        if loss is not None and not self.disable and sys.stderr.isatty():
            self.set_postfix(loss=f"{loss:.4g}", refresh=False)
        return super().update(n)


def progress_bar(total: int, initial: int = 0) -> ProgressBar:
    """Returns a bar on standard error (`tl.files.progress_options`).

    Args:
      total: images of the whole run.
      initial: images done before a resume; the rate leaves them out.
    """
    return ProgressBar(
        total=total,
        initial=initial,
        desc="training",
        unit=" images",
        **progress_options(),
    )
