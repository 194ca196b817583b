import json

import ml_collections
import numpy as np
import pytest

from tl import workdir
from tl.errors import UserError

CONFIG = ml_collections.ConfigDict({"a": 1, "b": {"c": (1.5, 2.0)}})


def test_describes_the_run(tmp_path):
    path = workdir.start(CONFIG, str(tmp_path / "new" / "run"), "name")
    assert json.loads((path / "config.json").read_text()) == {"a": 1, "b": {"c": [1.5, 2.0]}}
    environment = json.loads((path / "environment.json").read_text())
    assert environment["versions"]["jax"]
    assert environment["devices"] == [{"kind": "cpu", "count": 8}]


def test_a_finished_run_is_not_replaced_silently(tmp_path):
    path = workdir.start(CONFIG, str(tmp_path), "name")
    workdir.append_jsonl(path / "metrics.jsonl", {"step": 1})
    workdir.start(CONFIG, str(tmp_path), "name")  # unfinished: goes on
    workdir.write_json(path / "result.json", {})
    with pytest.raises(UserError, match="holds a finished run; give another --workdir, or --over"):
        workdir.start(CONFIG, str(tmp_path), "name")
    workdir.start(CONFIG, str(tmp_path), "name", overwrite=True)
    assert not (path / "result.json").exists()


def unfinished(tmp_path, config=CONFIG):
    """A run with a checkpoint and a record."""
    path = workdir.start(config, str(tmp_path / "run"), "name", resumable=True)
    (path / "checkpoints" / "3").mkdir(parents=True)
    workdir.append_jsonl(path / "metrics.jsonl", {"step": 3})
    return path


def test_a_run_with_checkpoints_goes_on_and_keeps_its_records(tmp_path):
    path = unfinished(tmp_path)
    before = (path / "environment.json").stat().st_mtime_ns
    assert workdir.start(CONFIG, str(path), "name", resumable=True) == path
    assert (path / "metrics.jsonl").read_text() == '{"step": 3}\n'
    assert (path / "checkpoints" / "3").is_dir()
    assert (path / "environment.json").stat().st_mtime_ns > before  # of the process now at work


def test_a_run_without_checkpoints_begins_anew(tmp_path):
    path = workdir.start(CONFIG, str(tmp_path), "name", resumable=True)
    workdir.append_jsonl(path / "metrics.jsonl", {"step": 1})
    workdir.start(CONFIG, str(tmp_path), "name", resumable=True)
    assert not (path / "metrics.jsonl").exists()


def test_overwrite_begins_anew_whatever_the_config(tmp_path):
    path = unfinished(tmp_path)
    other = ml_collections.ConfigDict({"a": 2})
    workdir.start(other, str(path), "name", resumable=True, overwrite=True)
    assert not (path / "checkpoints").exists()
    assert not (path / "metrics.jsonl").exists()
    assert json.loads((path / "config.json").read_text()) == {"a": 2}


def test_another_config_is_named_field_by_field(tmp_path):
    path = unfinished(tmp_path)
    other = ml_collections.ConfigDict({"a": 1, "b": {"c": (1.5, 3.0), "d": ""}})
    with pytest.raises(UserError) as error:
        workdir.start(other, str(path), "name", resumable=True)
    assert str(error.value).splitlines() == [
        f"{path} holds a run of another config. Give that one to go on, another --workdir, or "
        "--overwrite to begin anew; they differ in",
        "  b.c: asked [1.5, 3.0], stored [1.5, 2.0]",
        "  b.d: asked '', stored None",
    ]
    assert json.loads((path / "config.json").read_text()) == {"a": 1, "b": {"c": [1.5, 2.0]}}
    assert (path / "metrics.jsonl").exists()


def test_another_command_does_not_touch_checkpoints(tmp_path):
    path = unfinished(tmp_path)
    with pytest.raises(UserError, match="holds the checkpoints of a fine-tuning run; give another"):
        workdir.start(CONFIG, str(path), "name")
    assert (path / "metrics.jsonl").exists()


@pytest.mark.parametrize("text", [None, "{", ""])
def test_checkpoints_without_a_config_are_not_gone_on_from(text, tmp_path):
    path = unfinished(tmp_path)
    (path / "config.json").unlink()
    if text is not None:
        (path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"has checkpoints, but its config\.json cannot be read"):
        workdir.start(CONFIG, str(path), "name", resumable=True)


def test_a_finished_run_is_finished_with_checkpoints_too(tmp_path):
    path = unfinished(tmp_path)
    workdir.write_json(path / "result.json", {})
    with pytest.raises(UserError, match="holds a finished run"):
        workdir.start(CONFIG, str(path), "name", resumable=True)


def test_a_folder_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert workdir.start(CONFIG, "~/run", "name") == tmp_path / "run"


def test_a_folder_that_may_not_be_looked_into(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.exists", refuse)
    with pytest.raises(UserError, match="run cannot be written: Permission denied"):
        workdir.start(CONFIG, str(tmp_path / "run"), "name")


def test_new_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {workdir.start(CONFIG, None, "quick") for _ in range(3)}
    assert len(paths) == 3
    assert all(str(p).startswith("runs/quick-") for p in paths)


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "x.json"
    workdir.write_json(path, {"value": np.float32(0.5), "n": np.int64(3)})
    assert json.loads(path.read_text()) == {"value": 0.5, "n": 3}
    with pytest.raises(TypeError):
        workdir.write_json(path, {("a", "b"): 1})
    assert json.loads(path.read_text()) == {"value": 0.5, "n": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_jsonl_appends(tmp_path):
    for step in (1, 2):
        workdir.append_jsonl(tmp_path / "m.jsonl", {"step": np.int32(step)})
    assert [json.loads(line) for line in (tmp_path / "m.jsonl").open()] == [
        {"step": 1},
        {"step": 2},
    ]
