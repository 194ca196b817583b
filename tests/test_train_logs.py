"""What is written is read back: JSON lines, and the frames of TensorBoard's event files."""

import io
import json
import os
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from tl.train import logs
from tl.train.logs import RunLog


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def events_of(path):
    """Events of one file: each is length (8 bytes), its checksum (4), data, its checksum (4)."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[12 + length + 4 :]
    return found


def scalars(workdir):
    """Returns (name, step) to value as TensorBoard shows them after the files' purges."""
    shown = {}
    for path in sorted((workdir / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime):
        for event in events_of(path):
            if event.session_log.status == event_pb2.SessionLog.START:
                shown = {key: value for key, value in shown.items() if key[1] < event.step}
            for value in event.summary.value:
                shown[value.tag, event.step] = value.simple_value
    return shown


def test_a_record_is_a_line_and_events(tmp_path):
    with RunLog(tmp_path) as log:
        log.write(0, {"val/top1": 0.25}, epoch=0.0)
        log.write(3, {"train/loss": np.float32(1.5), "train/learning_rate": 0.1}, note="x")
    assert records(tmp_path) == [
        {"step": 0, "val/top1": 0.25, "epoch": 0.0},
        {"step": 3, "train/loss": 1.5, "train/learning_rate": 0.1, "note": "x"},
    ]
    assert scalars(tmp_path) == pytest.approx(
        {("val/top1", 0): 0.25, ("train/loss", 3): 1.5, ("train/learning_rate", 3): 0.1}
    )


def test_a_resumed_run_drops_the_steps_it_does_again(tmp_path):
    with RunLog(tmp_path) as log:
        for step in (1, 2, 3, 4):
            log.write(step, {"train/loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "train/lo')
    with RunLog(tmp_path, 2) as log:
        log.write(3, {"train/loss": 30.0})
    assert [(r["step"], r["train/loss"]) for r in records(tmp_path)] == [(1, 1), (2, 2), (3, 30)]
    assert scalars(tmp_path) == {("train/loss", s): v for s, v in ((1, 1.0), (2, 2.0), (3, 30.0))}
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "tensorboard"}


def test_a_torn_line_that_is_whole_json_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 1}')
    with RunLog(tmp_path, 5) as log:
        log.write(6, {})
    assert records(tmp_path) == [{"step": 1}, {"step": 6}]


def test_a_run_from_the_start_drops_all(tmp_path):
    for loss in (1.0, 2.0):
        with RunLog(tmp_path) as log:
            log.write(0, {"train/loss": loss})
            log.write(int(loss), {"train/loss": loss})
    assert [r["step"] for r in records(tmp_path)] == [0, 2]
    assert scalars(tmp_path) == {("train/loss", 0): 2.0, ("train/loss", 2): 2.0}


def test_events_are_on_disk_before_the_end(tmp_path, monkeypatch):
    assert logs._FLUSH_SECONDS <= 10
    monkeypatch.setattr(logs, "_FLUSH_SECONDS", 0.2)
    with RunLog(tmp_path) as log:
        log.write(1, {"train/loss": 1.0})
        log.write(2, {"train/loss": 2.0})
        end = time.monotonic() + 5
        while len(scalars(tmp_path)) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(scalars(tmp_path)) == 2
        log.close()  # and once more by the block


def test_a_loss_that_is_no_number(tmp_path):
    with RunLog(tmp_path) as log:
        log.write(1, {"train/loss": float("nan")})
    assert np.isnan(scalars(tmp_path)["train/loss", 1]) and np.isnan(
        records(tmp_path)[0]["train/loss"]
    )


def test_importing_is_cheap_and_an_open_log_prints_nothing_and_ends(tmp_path):
    program = f"""
import sys, tl.train.logs
assert not any(name.startswith("tensorboardX") for name in sys.modules)
log = tl.train.logs.RunLog({str(tmp_path)!r}, 0)
log.write(1, {{"train/loss": float("inf")}})
bar = tl.train.logs.progress_bar(10)
bar.update(5, loss=1.0)
"""
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=30
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert scalars(tmp_path) == {("train/loss", 1): float("inf")}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_shows_loss_rate_and_time_left(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with logs.progress_bar(6400, initial=3200) as bar:
        bar.start_t -= 16  # seconds since the resume
        bar.update(1600, loss=np.float32(0.51234))
        bar.update(0)
        bar.refresh()
    last = terminal.getvalue().split("\r")[-1]
    assert "75%" in last and "4800/6400" in last and "loss=0.5123" in last
    assert "<00:16" in last and "images/s" in last  # 1,600 images in 16 s, and as many to go


def test_no_terminal_no_bar(capsys):
    class Unread:
        def __format__(self, spec):
            raise AssertionError("a bar that is not shown must not wait for the loss")

    with logs.progress_bar(10) as bar:
        bar.update(10, loss=Unread())
    assert capsys.readouterr() == ("", "")
