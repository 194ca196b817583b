import contextlib
import functools
import os
import re
import shutil
import signal
import threading
import time

import pytest
from filelock import FileLock

from tests import studies, tiny
from tl.errors import Stopped, UserError
from tl.studies import folder as study_folder
from tl.studies import work
from tl.studies.plan import make_plan


@pytest.fixture
def done(monkeypatch):
    """Has every run finish at once; holds the folders' names, in order."""
    names = []

    def job(values, path, log, kind):
        names.append(path.name)
        return studies.finish(values, path, log, kind=kind)

    set_jobs(monkeypatch, job)
    monkeypatch.setattr(work, "_WAIT_SECONDS", 0.02)
    return names


def set_jobs(monkeypatch, job):
    jobs = {kind: functools.partial(job, kind=kind) for kind in ("probe", "finetune")}
    monkeypatch.setattr(work, "JOBS", jobs)


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


def test_features_of_fewer_endpoints_are_not_those_of_more(done, tmp_path):
    axes = {"endpoint": ("stem",), "seed": (0,)}
    work.do(studies.plan(axes, run="probe"), tmp_path, log=print)
    plan = studies.plan({**axes, "endpoint": ("stem", "stage1", "stage2")}, run="probe")
    name = work.extraction_lock(plan.runs[1])
    lines = []
    with another(tmp_path, name, until=lambda: lines):
        work.do(plan, tmp_path, log=lines.append)
    assert lines[0] == "waiting for other processes: 2 runs to be done"
    assert sorted(done) == ["stage1-seed0", "stage2-seed0", "stem-seed0"]


def test_an_endpoint_that_the_network_lacks_fails_its_own_runs_only(monkeypatch, tmp_path):
    config = studies.config({"endpoint": ("stem", "stage9", "stem+pooled")}, run="probe")
    with tiny.registered():
        config.base.weights = tiny.write_weights(tmp_path / "tiny.safetensors")
        config.base.extract.feature_dir = str(tmp_path / "features")
        config.base.probe.l2 = (0.1, 1.0)
        plan = make_plan(config)
        assert plan.runs[0].config.extract.shared_endpoints == ("stem", "stage9", "pooled")
        assert work.do(plan, tmp_path / "study", log=print) == ["stage9"]
    error = (tmp_path / "study" / "runs" / "stage9" / "error.json").read_text()
    assert "the network has no endpoint 'stage9'" in error
    log = (tmp_path / "study" / "runs" / "stem" / "log.txt").read_text()
    assert log.startswith("not stored for other runs, since there is no such endpoint: stage9\n")
    log = (tmp_path / "study" / "runs" / "stem_pooled" / "log.txt").read_text()
    assert log.count("features reused") == 2  # train and test


def test_a_failing_run_is_recorded_and_tried_again(monkeypatch, tmp_path):
    tried, broken, lines = [], {"probe-seed0", "tune-seed1"}, []

    def job(values, path, log, kind):
        tried.append(path.name)
        if path.name in broken:
            raise (UserError if path.name == "probe-seed0" else ZeroDivisionError)("no\nluck")
        return studies.finish(values, path, log, kind=kind)

    set_jobs(monkeypatch, job)
    plan = studies.plan()
    assert work.do(plan, tmp_path, log=lines.append) == ["probe-seed0", "tune-seed1"]
    assert lines[0] == "[1/4] method=probe, seed=0: failed: no"
    path = tmp_path / "runs" / "tune-seed1"
    assert '"error": "no\\nluck"' in (path / "error.json").read_text()
    assert '"type": "ZeroDivisionError"' in (path / "error.json").read_text()
    assert "Traceback" in (path / "error.txt").read_text()
    broken.remove("tune-seed1")
    tried.clear()
    lines.clear()
    assert work.do(plan, tmp_path, log=lines.append) == ["probe-seed0"]
    assert tried == ["probe-seed0", "tune-seed1"]
    # What has failed before and is yet to be tried does not count.
    assert [line.split()[0] for line in lines] == ["[3/4]", "[4/4]"]
    broken.clear()
    tried.clear()
    assert work.do(plan, tmp_path, log=print) == []
    assert tried == ["probe-seed0"]
    path = tmp_path / "runs" / "probe-seed0"
    assert not (path / "error.json").exists()
    assert not (path / "error.txt").exists()


def test_runs_of_another_config_stay_unless_overwritten(done, tmp_path):
    work.do(studies.plan(), tmp_path, log=print)
    config = studies.config()
    config.axes.method.tune.train.steps = 7
    plan = make_plan(config)
    with pytest.raises(UserError, match=r"tune-seed0 holds a run of another config(.|\n)*--overw"):
        work.do(plan, tmp_path, log=print)
    lines = []
    work.do(plan, tmp_path, overwrite=True, log=lines.append)
    assert done == [*ALL, "tune-seed0", "tune-seed1"]
    # What is yet to be replaced is not done.
    assert [line.split()[0] for line in lines] == ["[3/4]", "[4/4]"]
    assert [" left" in line for line in lines] == [True, False]
    assert (tmp_path / "runs" / "tune-seed0" / "log.txt").read_text() == "at work\n"
    work.do(plan, tmp_path, overwrite=True, log=print)
    assert len(done) == 6


def test_a_run_that_cannot_be_replaced_leaves_the_old_one(done, monkeypatch, tmp_path):
    axes = {"endpoint": ("stem",), "seed": (0,)}
    (before,) = studies.plan(axes, run="probe").runs
    work.do(studies.plan(axes, run="probe"), tmp_path, log=print)

    def job(values, path, log, kind):
        raise UserError("no such thing")

    set_jobs(monkeypatch, job)
    config = studies.config(axes, run="probe")
    config.base.probe.tolerance = 0.5
    plan = make_plan(config)
    assert work.do(plan, tmp_path, overwrite=True, log=print) == ["stem-seed0"]
    assert study_folder.standing(tmp_path, plan.runs[0]).status == "failed"
    assert study_folder.standing(tmp_path, before).status == "done"
    with pytest.raises(UserError, match=r"(.|\n)*probe\.tolerance: asked 0\.5, stored 1e-08"):
        work.do(plan, tmp_path, log=print)


def test_another_process_may_try_what_failed_here(done, monkeypatch, tmp_path):
    def job(values, path, log, kind):
        raise UserError("no such thing")

    set_jobs(monkeypatch, job)
    plan = studies.plan({"endpoint": ("stem",), "seed": (0,)}, run="probe")
    work.do(plan, tmp_path, log=print)
    with FileLock(study_folder.place(tmp_path, plan.runs[0]) / ".lock", timeout=0):
        pass


def test_runs_of_another_kind_are_not_taken_for_those_asked(done, tmp_path):
    axes = {"endpoint": ("stem",), "seed": (0,)}
    work.do(studies.plan(axes, run="probe"), tmp_path, log=print)
    plan = studies.plan(axes, run="finetune")
    with pytest.raises(UserError, match=r"(.|\n)*run: asked 'finetune', stored 'probe'"):
        work.do(plan, tmp_path, log=print)
    work.do(plan, tmp_path, overwrite=True, log=print)
    assert done == ["stem-seed0", "stem-seed0"]
    assert study_folder.standing(tmp_path, plan.runs[0]).result["kind"] == "finetune"


def test_a_folder_that_is_removed_meanwhile_fails_its_run_only(monkeypatch, tmp_path):
    def job(values, path, log, kind):
        if path.name == "tune-seed0":
            shutil.rmtree(path)
        return studies.finish(values, path, log, kind=kind)

    set_jobs(monkeypatch, job)
    plan = studies.plan()
    assert work.do(plan, tmp_path, log=print) == ["tune-seed0"]
    assert "FileNotFoundError" in (tmp_path / "runs" / "tune-seed0" / "error.txt").read_text()


def test_two_workers_do_nothing_twice(monkeypatch, done, tmp_path):
    axes = {"method": studies.METHODS, "seed": tuple(range(6))}

    def job(values, path, log, kind):
        time.sleep(0.01)
        done.append(path.name)
        return studies.finish(values, path, log, kind=kind)

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
    lines = []
    with another(tmp_path, "probe-seed0", until=lambda: lines and "waiting" in lines[-1]):
        work.do(studies.plan(), tmp_path, log=lines.append)
    assert done == [*ALL[1:], ALL[0]]  # the other process died without a result
    assert lines[3] == "waiting for other processes: 1 run to be done"
    assert len(lines) == 5  # it is said once


def test_features_that_another_process_extracts_are_waited_for(done, tmp_path):
    plan = studies.plan()
    (name,) = (work.extraction_lock(run) for run in plan.runs if run.name == "probe-seed0")
    with another(tmp_path, name, until=lambda: len(done) == 2):
        work.do(plan, tmp_path, log=print)
    assert done[:2] == ["tune-seed0", "tune-seed1"]
    # The other process may let go between the looks at the two.
    assert sorted(done[2:]) == ["probe-seed0", "probe-seed1"]


def test_a_failure_of_another_process_is_not_tried_at_once(monkeypatch, done, tmp_path):
    plan = studies.plan()
    failed = study_folder.place(tmp_path, plan.runs[0])

    def fail():
        if len(done) < 3:
            return False
        failed.mkdir(parents=True)
        (failed / study_folder.ERROR).write_text('{"error": "no luck"}')
        return True

    with another(tmp_path, "probe-seed0", until=fail):
        assert work.do(plan, tmp_path, log=print) == ["probe-seed0"]
    assert done == ALL[1:]


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, also where the suite was started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_study(monkeypatch, tmp_path, interruptible, number, status):
    tried = []

    def job(values, path, log, kind):
        tried.append(path.name)
        if len(tried) == 2:
            os.kill(os.getpid(), number)
            time.sleep(5)
        return studies.finish(values, path, log, kind=kind)

    set_jobs(monkeypatch, job)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match=f"1 of 4 runs finished; the .*={tmp_path} goes") as stopped:
        work.do(studies.plan(), tmp_path, log=print)
    assert stopped.value.status == status
    assert signal.getsignal(signal.SIGTERM) is before
    assert study_folder.standing(tmp_path, studies.plan().runs[1]).status == "missing"
    work.do(studies.plan(), tmp_path, log=print)
    assert tried == [*ALL[:2], *ALL[1:]]


def test_a_run_that_stops_stops_the_study(monkeypatch, tmp_path):
    def job(values, path, log, kind):
        raise Stopped("saved", 143)

    set_jobs(monkeypatch, job)
    with pytest.raises(Stopped, match="0 of 4 runs finished") as stopped:
        work.do(studies.plan(), tmp_path, log=print)
    assert stopped.value.status == 143


@pytest.mark.parametrize("keep", [False, True])
def test_weights_stay_where_they_are_wanted(monkeypatch, tmp_path, keep):
    def job(values, path, log, kind):
        (path / "checkpoints").mkdir()
        (path / "model.safetensors").write_text("")
        return studies.finish(values, path, log, kind=kind)

    set_jobs(monkeypatch, job)
    config = studies.config()
    config.keep_weights = keep
    work.do(make_plan(config), tmp_path, log=print)
    path = tmp_path / "runs" / "tune-seed0"
    assert (path / "checkpoints").exists() is (path / "model.safetensors").exists() is keep
