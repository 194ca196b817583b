import json

import pytest

from tests import studies
from tl.errors import Stopped, UserError
from tl.studies import study, summary, work


@pytest.fixture
def jobs(monkeypatch):
    """Has probes finish at once, and fine-tuning runs stop."""

    def probe(values, path, log):
        return studies.finish(values, path, log, kind="probe")

    def finetune(values, path, log):
        raise Stopped("saved", 143)

    monkeypatch.setattr(work, "JOBS", {"probe": probe, "finetune": finetune})


def test_a_study_that_is_stopped_has_its_summary(jobs, tmp_path):
    with pytest.raises(Stopped, match="1 of 4 runs finished"):
        study.run(studies.plan(), tmp_path, log=print)
    runs = json.loads((tmp_path / "study.json").read_text())["runs"]
    assert [run["status"] for run in runs] == ["done", "missing", "missing", "missing"]


def test_a_folder_that_cannot_be_written(jobs, monkeypatch, tmp_path):
    def full(plan, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(summary, "write", full)
    plan = studies.plan({"endpoint": ("stem",)}, run="probe")
    with pytest.raises(UserError, match=f"--workdir={tmp_path} cannot be written: .*No space left"):
        study.run(plan, tmp_path, log=print)


def test_a_dry_run_tells_runs_apart(jobs, tmp_path):
    axes = {"endpoint": ("stem", "stage1", "stage2")}
    plan = studies.plan(axes, run="probe")
    studies.finished(tmp_path, plan.runs[0])
    studies.finished(tmp_path, plan.runs[1])
    plan.runs[1].config.probe.tolerance = 0.5
    lines = []
    study.dry_run(plan, str(tmp_path), lines.append)
    assert lines[0].endswith("px, done")
    assert lines[1].endswith(
        "px, missing, and a run of another config is in its place, for --overwrite to replace"
    )
    assert lines[2].endswith("px, missing")
    assert "3 runs (3 probe), 1 finished, 2 to do now" in lines[3]
