import json

import pytest

from tests import studies
from tl import files
from tl.errors import UserError
from tl.runs import workdir
from tl.studies import folder as study_folder


@pytest.fixture
def run():
    return studies.plan().runs[-1]


def started(folder, run):
    return workdir.start(run.config, str(study_folder.place(folder, run)), run.name)


def test_how_a_run_stands(tmp_path, run):
    assert study_folder.standing(tmp_path, run) == study_folder.Standing("missing")
    path = started(tmp_path, run)
    assert study_folder.standing(tmp_path, run) == study_folder.Standing("missing")
    files.write_json(path / study_folder.ERROR, {"error": "no luck"})
    assert study_folder.standing(tmp_path, run) == study_folder.Standing(
        "failed", error={"error": "no luck"}
    )
    result = studies.finish(None, path, lambda line: None, seconds=3.0)
    assert study_folder.standing(tmp_path, run) == study_folder.Standing("done", result=result)
    assert study_folder.seconds(tmp_path, studies.plan()) == {run.name: 3.0}


def test_an_interrupted_run_of_another_config(tmp_path, run):
    path = started(tmp_path, run)
    run.config.train.steps = 5
    study_folder.check(tmp_path, run)  # nothing has been done yet
    (path / "checkpoints").mkdir()
    message = f"{path} holds a run of another config(.|\n)*train.steps: asked 5, stored 4"
    with pytest.raises(UserError, match=message):
        study_folder.check(tmp_path, run)
    run.config.train.steps = 4
    study_folder.check(tmp_path, run)
    # It goes on by its very config only, as experiments.finetune has it.
    run.config.extract.threads = 1
    assert study_folder.changes(tmp_path, run) == ["extract.threads: asked 1, stored 4"]


def test_a_finished_run_of_another_config_is_no_result(tmp_path, run):
    studies.finished(tmp_path, run)
    run.config.train.steps = 5
    with pytest.raises(UserError, match=r"holds a run of another config(.|\n)*train\.steps: asked"):
        study_folder.check(tmp_path, run)
    assert study_folder.standing(tmp_path, run) == study_folder.Standing("missing")
    assert study_folder.seconds(tmp_path, studies.plan()) == {run.name: 2.0}


@pytest.mark.parametrize(("before", "now"), [("probe", "finetune"), ("finetune", "probe")])
def test_a_run_of_another_kind_is_no_result(tmp_path, before, now):
    axes = {"norm": ("train",)}
    (there,), (asked,) = (studies.plan(axes, run=kind).runs for kind in (before, now))
    studies.finished(tmp_path, there)
    assert study_folder.changes(tmp_path, there) == []
    assert study_folder.changes(tmp_path, asked) == [f"run: asked {now!r}, stored {before!r}"]
    assert study_folder.standing(tmp_path, asked).status == "missing"


def test_an_interrupted_run_is_no_probe(tmp_path):
    (run,) = studies.plan({"norm": ("train",)}, run="probe").runs
    (started(tmp_path, run) / "checkpoints").mkdir()
    assert study_folder.changes(tmp_path, run) == ["run: asked 'probe', stored 'finetune'"]


def test_what_changes_no_result_is_no_other_config(tmp_path, run):
    studies.finished(tmp_path, run)
    run.config.extract.endpoints = run.config.extract.shared_endpoints = ("stem",)
    run.config.extract.threads = 1
    run.config.data.download = False
    run.config.train.sharding, run.config.train.remat = "fsdp", True
    assert study_folder.changes(tmp_path, run) == []
    run.config.extract.pooling = "max"
    assert study_folder.changes(tmp_path, run) == ["extract.pooling: asked 'max', stored 'mean'"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_from_before_a_field_is_recognised(tmp_path, run, finished):
    if finished:
        studies.finished(tmp_path, run)
    else:
        (started(tmp_path, run) / "checkpoints").mkdir()
    path = study_folder.place(tmp_path, run) / "config.json"
    stored = json.loads(path.read_text())
    del stored["train"]["loss"]
    files.write_json(path, stored)
    study_folder.check(tmp_path, run)
    run.config.train.loss = "sigmoid"
    changes = ["train.loss: asked 'sigmoid', stored 'softmax'"]
    assert study_folder.changes(tmp_path, run) == changes


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_damaged_files(tmp_path, run, name):
    studies.finished(tmp_path, run)
    (study_folder.place(tmp_path, run) / name).write_text("{")
    with pytest.raises(UserError, match=rf"{name}, which is (missing or )?damaged"):
        study_folder.check(tmp_path, run)
    assert study_folder.standing(tmp_path, run).status == "missing"


def test_endpoints_that_a_run_stored(tmp_path):
    (run,) = studies.plan({"endpoint": ("stem+stage1",)}, run="probe").runs
    assert study_folder.stored_endpoints(tmp_path, run) == ()
    studies.finished(tmp_path, run)
    assert study_folder.stored_endpoints(tmp_path, run) == ("stem", "stage1")


def test_weights_are_dropped_and_nothing_else(tmp_path, run):
    path = started(tmp_path, run)
    before = set(path.iterdir())
    (path / "checkpoints" / "4").mkdir(parents=True)
    (path / "model.safetensors").write_text("")
    study_folder.drop_weights(tmp_path, run)
    assert set(path.iterdir()) == before
    study_folder.drop_weights(tmp_path, run)  # nothing is left to drop
