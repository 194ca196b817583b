"""Files are whole or not there; JSON in them is what was given."""

import json

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
    with tqdm(total=4, **(files.progress_options() | {"mininterval": 9, "delay": 9})) as bar:
        bar.update(4)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert files.progress_options() == {}
