import json
import subprocess
import sys
from pathlib import Path

import ml_collections
import pytest
from filelock import FileLock, Timeout

from tl import files
from tl.errors import UserError
from tl.runs import workdir

CONFIG = ml_collections.ConfigDict({"a": 1, "b": {"c": (1.5, 2.0)}})


def test_describes_the_run(tmp_path):
    path = workdir.start(CONFIG, str(tmp_path / "new" / "run"), "name")
    assert json.loads((path / "config.json").read_text()) == {"a": 1, "b": {"c": [1.5, 2.0]}}
    environment = json.loads((path / "environment.json").read_text())
    assert environment["versions"]["jax"]
    assert environment["devices"] == [{"kind": "cpu", "count": 8}]


def test_a_finished_run_is_not_replaced_silently(tmp_path):
    path = workdir.start(CONFIG, str(tmp_path), "name")
    files.append_jsonl(path / "metrics.jsonl", {"step": 1})
    workdir.start(CONFIG, str(tmp_path), "name")  # unfinished: begins anew
    assert not (path / "metrics.jsonl").exists()
    files.append_jsonl(path / "metrics.jsonl", {"step": 1})
    files.write_json(path / "result.json", {})
    with pytest.raises(UserError, match="holds a finished run; give another --workdir, or --over"):
        workdir.start(CONFIG, str(tmp_path), "name")
    other = ml_collections.ConfigDict({"a": 2})
    workdir.start(other, str(tmp_path), "name", overwrite=True)
    # The new run may turn out not to be possible.
    assert (path / "result.json").exists() and (path / "metrics.jsonl").exists()
    assert json.loads((path / "config.json").read_text())["a"] == 1
    workdir.begin(path)
    assert {p.name for p in path.iterdir()} == {"config.json", "environment.json", ".lock"}
    assert json.loads((path / "config.json").read_text()) == {"a": 2}
    files.write_json(path / "result.json", {})
    workdir.begin(path)  # which there is nothing to do for
    assert (path / "result.json").exists()


def unfinished(tmp_path, config=CONFIG):
    """A run with a checkpoint and a record."""
    path = workdir.start(config, str(tmp_path / "run"), "name", resumable=True)
    (path / "checkpoints" / "3").mkdir(parents=True)
    files.append_jsonl(path / "metrics.jsonl", {"step": 3})
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
    files.append_jsonl(path / "metrics.jsonl", {"step": 1})
    workdir.start(CONFIG, str(tmp_path), "name", resumable=True)
    assert not (path / "metrics.jsonl").exists()


def test_overwrite_begins_anew_whatever_the_config(tmp_path):
    path = unfinished(tmp_path)
    other = ml_collections.ConfigDict({"a": 2})
    workdir.start(other, str(path), "name", resumable=True, overwrite=True)
    assert (path / "checkpoints" / "3").is_dir()
    workdir.begin(path)
    assert not (path / "checkpoints").exists()
    assert not (path / "metrics.jsonl").exists()
    assert json.loads((path / "config.json").read_text()) == {"a": 2}


def test_a_run_goes_on_with_its_state_and_its_data_in_other_places(tmp_path):
    path = unfinished(tmp_path, ml_collections.ConfigDict({"a": 1}))  # from before the fields
    fields = {"data": {"data_dir": "x"}, "train": {"sharding": "fsdp", "remat": True}}
    other = ml_collections.ConfigDict({"a": 1, **fields})
    assert workdir.start(other, str(path), "name", resumable=True) == path
    assert json.loads((path / "config.json").read_text()) == {"a": 1, **fields}


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


def test_a_run_from_before_a_field_goes_on_where_the_field_changes_nothing(tmp_path):
    path = unfinished(tmp_path)
    asked = {**CONFIG, "train": {"loss": "softmax"}}
    workdir.start(ml_collections.ConfigDict(asked), str(path), "name", resumable=True)
    assert (path / "metrics.jsonl").exists()
    files.write_json(path / "config.json", CONFIG.to_dict())
    asked["train"] = {"loss": "focal"}
    with pytest.raises(UserError, match=r"\n  train\.loss: asked 'focal', stored 'softmax'$"):
        workdir.start(ml_collections.ConfigDict(asked), str(path), "name", resumable=True)


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
    with pytest.raises(UserError, match=r"has checkpoints, but its config\.json is missing or da"):
        workdir.start(CONFIG, str(path), "name", resumable=True)


def test_a_finished_run_is_finished_with_checkpoints_too(tmp_path):
    path = unfinished(tmp_path)
    files.write_json(path / "result.json", {})
    with pytest.raises(UserError, match="holds a finished run"):
        workdir.start(CONFIG, str(path), "name", resumable=True)


def test_all_of_an_earlier_run_goes_and_nothing_else(tmp_path):
    path = unfinished(tmp_path)
    files.write_json(path / "result.json", {})
    theirs = ("report.html", "examples/test-3.png", "tensorboard/events.out.1", "model.safetensors")
    halves = (".result.json.0f", ".predictions.npz.12", ".config.json.3c")  # of writes cut off
    own = ("notes.txt", "examples/mine.jpg", "model.onnx", "results.json", "data/features.npz")
    for name in (*theirs, *halves, *own):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(name)
    (path / ".checkpoints.4d" / "3").mkdir(parents=True)  # of a removal cut off
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "metrics.jsonl").write_text("kept")
    (path / "metrics.jsonl").unlink()
    (path / "metrics.jsonl").symlink_to(tmp_path / "elsewhere" / "metrics.jsonl")
    workdir.start(CONFIG, str(path), "name", overwrite=True)
    workdir.begin(path)
    left = {str(p.relative_to(path)) for p in path.rglob("*") if not p.is_dir()}
    assert left == {*own, "config.json", "environment.json", ".lock"}
    assert {p.name for p in path.iterdir() if p.is_dir()} == {"examples", "data"}
    assert (tmp_path / "elsewhere" / "metrics.jsonl").read_text() == "kept"


@pytest.mark.parametrize("fails", range(4))
def test_a_replacement_cut_off_is_no_finished_run_of_the_old_config(fails, tmp_path, monkeypatch):
    path = unfinished(tmp_path)
    files.write_json(path / "result.json", {})
    other = ml_collections.ConfigDict({"a": 2})
    workdir.start(other, str(path), "name", resumable=True, overwrite=True)
    done = []

    def cut_off(name):
        original = getattr(Path, name)

        def act(self, *args, **kwargs):
            if len(done) == fails:
                raise OSError(28, "No space left on device")
            done.append(self.name)
            return original(self, *args, **kwargs)

        return act

    with monkeypatch.context() as patch:
        for name in ("unlink", "rename"):
            patch.setattr(Path, name, cut_off(name))
        with pytest.raises(UserError, match="cannot be written: No space left on device"):
            workdir.begin(path)
    assert (path / "result.json").exists() == (fails == 0)
    workdir.leave(path)
    workdir.start(other, str(path), "name", resumable=True, overwrite=True)
    workdir.begin(path)
    assert {p.name for p in path.iterdir()} == {"config.json", "environment.json", ".lock"}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "checkpoints/3/weights"])
def test_a_folder_that_is_no_runs_keeps_its_files(name, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("a network from elsewhere")
    for overwrite in (False, True):
        text = f"is not the folder of a run, and holds files .* replace: {name.split('/')[0]}; give"
        with pytest.raises(UserError, match=text):
            workdir.start(CONFIG, str(tmp_path), "name", resumable=True, overwrite=overwrite)
    assert file.read_text() == "a network from elsewhere"


def test_a_folder_with_other_files_may_become_a_runs(tmp_path):
    (tmp_path / "notes.txt").write_text("my own")
    workdir.start(CONFIG, str(tmp_path), "name")
    assert (tmp_path / "notes.txt").read_text() == "my own"


STUDY = ml_collections.ConfigDict({"axes": {"seed": (0, 1)}, "base": {"a": 1}})


def test_a_study_is_not_replaced_by_a_run(tmp_path):
    path = workdir.start(STUDY, str(tmp_path), "study")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds a study; give another --workdir"):
            workdir.start(CONFIG, str(path), "name", overwrite=overwrite)
    assert "axes" in json.loads((path / "config.json").read_text())


def test_a_study_goes_on_with_all_that_is_there_and_may_replace_a_run(tmp_path):
    path = workdir.start(STUDY, str(tmp_path / "study"), "study")
    (path / "report.html").touch()
    workdir.start(STUDY, str(path), "study", overwrite=True)
    assert (path / "report.html").exists()
    run = unfinished(tmp_path)
    with pytest.raises(UserError, match="holds the checkpoints of a fine-tuning run; give another"):
        workdir.start(STUDY, str(run), "study")
    workdir.start(STUDY, str(run), "study", overwrite=True)
    workdir.begin(run)
    assert not (run / "checkpoints").exists()
    assert "axes" in json.loads((run / "config.json").read_text())


@pytest.mark.parametrize("inside", ["", "model.safetensors", "checkpoints/3"])
def test_a_run_does_not_replace_its_own_weights(inside, tmp_path):
    path = unfinished(tmp_path)
    (path / "model.safetensors").touch()
    config = ml_collections.ConfigDict({"weights": str(path / inside)})
    with pytest.raises(UserError, match="lies in the run that --overwrite would replace; give ano"):
        workdir.start(config, str(path), "name", resumable=True, overwrite=True)
    config.weights = "resnet50.tv1"
    workdir.start(config, str(path), "name", resumable=True, overwrite=True)


AT_WORK = """
import ml_collections, sys
from tl.runs import workdir
workdir.start(ml_collections.ConfigDict({config}), sys.argv[1], "name")
print("at work", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("config", [CONFIG, STUDY], ids=["run", "study"])
def test_two_processes_in_one_folder(config, tmp_path):
    command = [sys.executable, "-c", AT_WORK.format(config=config.to_dict()), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as other:
        assert other.stdout.readline() == "at work\n"
        if config is STUDY:  # whose runs are locked one by one
            workdir.start(config, str(tmp_path), "name")
        else:
            for overwrite in (False, True):
                with pytest.raises(UserError, match=r"another process is at work in .*; wait unt"):
                    workdir.start(STUDY.base, str(tmp_path), "name", overwrite=overwrite)
        other.kill()
    assert json.loads((tmp_path / "config.json").read_text()).keys() == set(config)
    workdir.start(config, str(tmp_path), "name")


def test_a_folder_that_was_left_is_free(tmp_path):
    workdir.start(CONFIG, str(tmp_path), "name")
    lock = FileLock(tmp_path / ".lock", timeout=0)
    with pytest.raises(Timeout):
        lock.acquire()
    workdir.leave(tmp_path)
    workdir.leave(tmp_path)
    with lock:
        pass


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


def test_a_start_in_vain_leaves_no_folder(tmp_path):
    new, used, there = (tmp_path / name for name in ("new", "used", "there"))
    there.mkdir()
    for path in (new, used, there):
        workdir.start(CONFIG, str(path), "name")
    (used / "metrics.jsonl").touch()
    workdir.remove_new()
    assert not new.exists()
    assert [path.name for path in used.iterdir()] == ["metrics.jsonl"]
    assert (there / "config.json").exists()  # the user made the folder


def test_what_a_run_has_begun_stays(tmp_path):
    path = workdir.start(CONFIG, str(tmp_path / "run"), "name")
    workdir.begin(path)
    workdir.remove_new()
    assert (path / "config.json").exists()


@pytest.mark.parametrize("kept", ["result.json", "config.json", "no page wanted", "report.html"])
def test_a_page_is_made_later_for_a_finished_run_of_the_same_config_alone(kept, tmp_path):
    config = ml_collections.ConfigDict({"a": 1, "report": True})
    path = workdir.start(config, str(tmp_path / "run"), "name")
    assert not workdir.lacks_page(config, path)  # it is not finished
    files.write_json(path / "result.json", {"number": 1})
    assert workdir.lacks_page(config, path)
    other = ml_collections.ConfigDict({"a": 2, "report": True})
    assert not workdir.lacks_page(other, path)
    if kept == "report.html":
        (path / kept).touch()
    elif kept == "no page wanted":
        config.report = False
    else:
        (path / kept).write_text("{")
    assert not workdir.lacks_page(config, path)
