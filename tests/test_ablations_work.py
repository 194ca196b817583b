import contextlib
import os
import re
import signal
import threading
import time

import pytest
from filelock import FileLock

from tests import studies
from tl.ablations import folder as files
from tl.ablations import work
from tl.ablations.plan import make_plan
from tl.errors import Stopped, UserError


@pytest.fixture
def done(monkeypatch):
    """Has every run finish at once; holds the folders' names, in order."""
    names = []

    def job(values, path, log):
        names.append(path.name)
        studies.finish(values, path, log)

    set_jobs(monkeypatch, job)
    monkeypatch.setattr(work, "_WAIT_SECONDS", 0.02)
    return names


def set_jobs(monkeypatch, job):
    monkeypatch.setattr(work, "JOBS", {"probe": job, "finetune": job})


ALL = ["probe-seed0", "tune-seed0", "probe-seed1", "tune-seed1"]


def test_each_run_once_with_all_it_says(done, tmp_path):
    lines = []
    assert work.do(studies.plan(), tmp_path, log=lines.append) == []
    assert done == ALL
    assert re.fullmatch(
        r"\[1/4\] method=probe, seed=0: test top-1 50.0 % in 2 s", lines[0]
    )  # nothing tells yet how long fine-tuning takes
    assert re.fullmatch(r"\[2/4\] method=tune, seed=0: .* in 2 s; about \d+ s left", lines[1])
    assert re.fullmatch(r"\[4/4\] method=tune, seed=1: .* in 2 s", lines[3])
    path = tmp_path / "runs" / "tune-seed1"
    assert (path / "log.txt").read_text() == "at work\n"
    assert {"config.json", "environment.json", "result.json"} <= {p.name for p in path.iterdir()}


def test_what_is_finished_is_not_done_again(done, tmp_path):
    plan = studies.plan()
    work.do(plan, tmp_path, log=print)
    (tmp_path / "runs" / "probe-seed1" / "result.json").unlink()
    work.do(plan, tmp_path, log=print)
    assert done == [*ALL, "probe-seed1"]


def test_a_larger_study_keeps_the_runs_of_a_smaller_one(done, tmp_path):
    axes = {"endpoint": ("stem",), "seed": (0,)}
    work.do(studies.plan(axes, run="probe"), tmp_path, log=print)
    axes = {"endpoint": ("stem", "stage1"), "seed": (0, 1)}
    work.do(studies.plan(axes, run="probe"), tmp_path, log=print)
    assert done == ["stem-seed0", "stage1-seed0", "stem-seed1", "stage1-seed1"]


def test_only_the_chosen(done, tmp_path):
    config = studies.config()
    config.only = ("seed=1", "method=tune")
    work.do(make_plan(config), tmp_path, log=print)
    assert done == ["tune-seed1"]


def test_a_failing_run_is_recorded_and_tried_again(monkeypatch, tmp_path):
    tried, broken, lines = [], {"probe-seed0", "tune-seed1"}, []

    def job(values, path, log):
        tried.append(path.name)
        if path.name in broken:
            raise (UserError if path.name == "probe-seed0" else ZeroDivisionError)("no\nluck")
        studies.finish(values, path, log)

    set_jobs(monkeypatch, job)
    plan = studies.plan()
    assert work.do(plan, tmp_path, log=lines.append) == ["probe-seed0", "tune-seed1"]
    assert lines[0] == "[1/4] method=probe, seed=0: failed: no"
    path = tmp_path / "runs" / "tune-seed1"
    assert '"error": "no\\nluck"' in (path / "error.json").read_text()
    assert '"type": "ZeroDivisionError"' in (path / "error.json").read_text()
    assert "Traceback" in (path / "error.txt").read_text()
    broken.clear()
    tried.clear()
    assert work.do(plan, tmp_path, log=print) == []
    assert tried == ["probe-seed0", "tune-seed1"]
    assert not (path / "error.json").exists()
    assert not (path / "error.txt").exists()


def test_runs_of_another_config_stay_unless_overwritten(done, tmp_path):
    work.do(studies.plan(), tmp_path, log=print)
    config = studies.config()
    config.axes.method.tune.train.steps = 7
    plan = make_plan(config)
    with pytest.raises(UserError, match=r"tune-seed0 holds a run of another config(.|\n)*--overw"):
        work.do(plan, tmp_path, log=print)
    work.do(plan, tmp_path, overwrite=True, log=print)
    assert done == [*ALL, "tune-seed0", "tune-seed1"]
    work.do(plan, tmp_path, overwrite=True, log=print)
    assert len(done) == 6


def test_two_workers_do_nothing_twice(monkeypatch, done, tmp_path):
    axes = {"method": studies.METHODS, "seed": tuple(range(6))}

    def job(values, path, log):
        time.sleep(0.01)
        done.append(path.name)
        studies.finish(values, path, log)

    set_jobs(monkeypatch, job)
    threads = [
        threading.Thread(target=work.do, args=(studies.plan(axes), tmp_path)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == len(set(done)) == 12


@contextlib.contextmanager
def another(folder, name, *, until):
    """Within it, another process holds a lock, until a condition holds."""
    (folder / work.LOCKS).mkdir(exist_ok=True)
    lock = FileLock(folder / work.LOCKS / f"{name}.lock", thread_local=False)
    lock.acquire()

    def release():
        while not until():
            time.sleep(0.01)
        lock.release()

    thread = threading.Thread(target=release)
    thread.start()
    yield
    thread.join()


def test_what_another_process_holds_comes_last(done, tmp_path):
    with another(tmp_path, "probe-seed0", until=lambda: len(done) == 3):
        work.do(studies.plan(), tmp_path, log=print)
    assert done == [*ALL[1:], ALL[0]]  # the other process died without a result


def test_features_that_another_process_extracts_are_waited_for(done, tmp_path):
    plan = studies.plan()
    (name,) = (work.extraction_lock(run) for run in plan.runs if run.name == "probe-seed0")
    with another(tmp_path, name, until=lambda: len(done) == 2):
        work.do(plan, tmp_path, log=print)
    assert done == ["tune-seed0", "tune-seed1", "probe-seed0", "probe-seed1"]


def test_a_failure_of_another_process_is_not_tried_at_once(monkeypatch, done, tmp_path):
    plan = studies.plan()
    failed = files.place(tmp_path, plan.runs[0])

    def fail():
        if len(done) < 3:
            return False
        failed.mkdir(parents=True)
        (failed / files.ERROR).write_text('{"error": "no luck"}')
        return True

    with another(tmp_path, "probe-seed0", until=fail):
        assert work.do(plan, tmp_path, log=print) == ["probe-seed0"]
    assert done == ALL[1:]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_study(monkeypatch, tmp_path, number, status):
    tried = []

    def job(values, path, log):
        tried.append(path.name)
        if len(tried) == 2:
            os.kill(os.getpid(), number)
            time.sleep(5)
        studies.finish(values, path, log)

    set_jobs(monkeypatch, job)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match=f"1 of 4 runs finished; the .*={tmp_path} goes") as stopped:
        work.do(studies.plan(), tmp_path, log=print)
    assert stopped.value.status == status
    assert signal.getsignal(signal.SIGTERM) is before
    assert files.status(tmp_path, studies.plan().runs[1]) == "missing"
    work.do(studies.plan(), tmp_path, log=print)
    assert tried == [*ALL[:2], *ALL[1:]]


def test_a_run_that_stops_stops_the_study(monkeypatch, tmp_path):
    def job(values, path, log):
        raise Stopped("saved", 143)

    set_jobs(monkeypatch, job)
    with pytest.raises(Stopped, match="0 of 4 runs finished") as stopped:
        work.do(studies.plan(), tmp_path, log=print)
    assert stopped.value.status == 143


@pytest.mark.parametrize("keep", [False, True])
def test_weights_stay_where_they_are_wanted(monkeypatch, tmp_path, keep):
    def job(values, path, log):
        (path / "checkpoints").mkdir()
        (path / "model.safetensors").write_text("")
        studies.finish(values, path, log)

    set_jobs(monkeypatch, job)
    config = studies.config()
    config.keep_weights = keep
    work.do(make_plan(config), tmp_path, log=print)
    path = tmp_path / "runs" / "tune-seed0"
    assert (path / "checkpoints").exists() is (path / "model.safetensors").exists() is keep
