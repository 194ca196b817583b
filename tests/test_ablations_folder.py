import pytest

from tests import studies
from tl import workdir
from tl.ablations import folder as files
from tl.errors import UserError


@pytest.fixture
def run():
    return studies.plan().runs[-1]


def started(folder, run):
    return workdir.start(run.config, str(files.place(folder, run)), run.name)


def test_how_a_run_stands(tmp_path, run):
    assert files.status(tmp_path, run) == "missing"
    path = started(tmp_path, run)
    assert files.status(tmp_path, run) == "missing"
    workdir.write_json(path / files.ERROR, {})
    assert files.status(tmp_path, run) == "failed"
    studies.finish(None, path, lambda line: None, seconds=3.0)
    assert files.status(tmp_path, run) == "done"
    assert files.seconds(tmp_path, studies.plan()) == {run.name: 3.0}


def test_a_run_of_another_config(tmp_path, run):
    path = started(tmp_path, run)
    run.config.train.steps = 5
    files.check(tmp_path, run)  # nothing has been done yet
    (path / "checkpoints").mkdir()
    message = f"{path} holds a run of another config(.|\n)*train.steps: asked 5, stored 4"
    with pytest.raises(UserError, match=message):
        files.check(tmp_path, run)
    run.config.train.steps = 4
    files.check(tmp_path, run)


def test_what_changes_no_result_is_no_other_config(tmp_path, run):
    path = started(tmp_path, run)
    studies.finish(None, path, lambda line: None)
    run.config.extract.endpoints = ("stem",)
    run.config.extract.threads = 1
    assert files.changes(tmp_path, run) == []
    run.config.extract.pooling = "max"
    assert files.changes(tmp_path, run) == ["extract.pooling: asked 'max', stored 'mean'"]


def test_a_config_that_cannot_be_read(tmp_path, run):
    path = started(tmp_path, run)
    studies.finish(None, path, lambda line: None)
    (path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json, which cannot be read"):
        files.check(tmp_path, run)


def test_weights_are_dropped_and_nothing_else(tmp_path, run):
    path = started(tmp_path, run)
    (path / "checkpoints" / "4").mkdir(parents=True)
    (path / "model.safetensors").write_text("")
    files.drop_weights(tmp_path, run)
    assert {p.name for p in path.iterdir()} == {"config.json", "environment.json"}
    files.drop_weights(tmp_path, run)  # nothing is left to drop


def test_a_run_that_went_on_took_longer_than_its_last_process():
    assert files.taken({"seconds": {"total": 9.0}}) == 9.0
    assert files.taken({"seconds": {"total": 9.0, "train": 30.0}}) == 30.0
