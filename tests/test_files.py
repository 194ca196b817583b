"""Files are whole or not there; JSON in them is what was given."""

import io
import json
import re

import numpy as np
import pytest
from tqdm import tqdm

from tl import files


def test_what_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "x.csv"
    for text in ("old", "new"):
        with files.replacing(path) as partial:
            partial.write_text(text)
            assert path.exists() == (text == "new")
        assert path.read_text() == text
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"value": np.float32(0.5), "n": np.int64(3)})
    assert json.loads(path.read_text()) == {"value": 0.5, "n": 3}
    with pytest.raises(TypeError):
        files.write_json(path, {("a", "b"): 1})
    assert json.loads(path.read_text()) == {"value": 0.5, "n": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_jsonl_appends(tmp_path):
    for step in (1, 2):
        files.append_jsonl(tmp_path / "m.jsonl", {"step": np.int32(step)})
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1}, {"step": 2}]


def test_progress_is_lines_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(files, "PROGRESS_SECONDS", 0.0)
    with tqdm(total=4, desc="features", unit=" images", **files.progress_options()) as bar:
        bar.update(1)
        bar.update(3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines if line][-2:] == [
        "features: 1 of 4",
        "features: 4 of 4",
    ]
    assert all("\r" not in line for line in lines)
    options = {"unit": " images", "smoothing": 0, **files.progress_options()}
    with tqdm(total=9, desc="training", **options) as bar:
        bar.start_t -= 100
        bar.update(1)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "training: 1 of 9,  0.01 images/s, 13:20 left"
    with tqdm(total=4, **(files.progress_options() | {"mininterval": 9, "delay": 9})) as bar:
        bar.update(4)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (9, r"slow:  11%\|.+\| 1/9 \[01:40<13:20,  0\.01 images/s\]"),
        (None, r"slow: 1 images \[01:40,  0\.01 images/s\]"),
    ],
)
def test_on_a_terminal_there_is_a_bar(total, expected, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    options = files.progress_options(known=total is not None)
    with tqdm(total=total, desc="slow", unit=" images", smoothing=0, **options) as bar:
        bar.start_t -= 100
        bar.update(1)
        bar.refresh()
    assert re.search(expected, terminal.getvalue().split("\r")[-1])
