import functools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from configs import common
from tests import commands, studies, tiny
from tl.errors import Stopped, UserError
from tl.studies import engines, work
from tl.studies import folder as study_folder
from tl.studies.config import study
from tl.studies.plan import make_plan

NONE = engines.Resources()


@pytest.fixture
def here(monkeypatch):
    """An engine that does each task at once, in this process; holds what it was given."""
    given = []

    def engine(tasks, after, resources, folder):
        given.append((list(tasks), after, resources, folder))
        for task in tasks.values():
            yield task()

    def job(values, path, log, kind):
        return studies.finish(values, path, log, kind=kind)

    jobs = {kind: functools.partial(job, kind=kind) for kind in ("probe", "finetune")}
    monkeypatch.setattr(work, "JOBS", jobs)
    monkeypatch.setitem(engines.ENGINES, "here", engine)
    return given


def test_the_first_run_that_reads_some_features_leads_the_others():
    runs = studies.plan().runs
    of_extraction = {run.name: run.extraction for run in runs}
    assert of_extraction["probe-seed0"] == of_extraction["probe-seed1"] != ""
    assert of_extraction["tune-seed0"] == ""
    assert engines.waits(runs) == {"probe-seed1": "probe-seed0"}
    assert engines.waits(runs[1:]) == {}  # it is done: the next one leads


def test_each_run_is_a_task_and_says_what_a_study_says(here, tmp_path):
    plan, lines, resources = studies.plan(), [], engines.Resources(gpus=0.5)
    assert engines.do("here", resources, plan, tmp_path, log=lines.append) == []
    names = [run.name for run in plan.runs]
    assert here == [(names, {"probe-seed1": "probe-seed0"}, resources, tmp_path.resolve())]
    assert [line.split(":")[0] for line in lines] == [
        f"[{number}/4] method={method}, seed={seed}"
        for number, (method, seed) in enumerate(
            [("probe", 0), ("tune", 0), ("probe", 1), ("tune", 1)], 1
        )
    ]
    assert engines.do("here", resources, plan, tmp_path, log=lines.append) == []
    assert here[1][0] == []


def test_what_no_worker_has_finished_has_failed(monkeypatch, here, tmp_path):
    def lossy(tasks, *_):
        for name, task in tasks.items():
            yield task() if name != "tune-seed0" else [f"{name}: its worker was lost: killed"]

    monkeypatch.setitem(engines.ENGINES, "here", lossy)
    lines = []
    assert engines.do("here", NONE, studies.plan(), tmp_path, log=lines.append) == ["tune-seed0"]
    assert "tune-seed0: its worker was lost: killed" in lines


def test_ctrl_c_says_how_to_go_on(monkeypatch, here, tmp_path):
    def interrupted(tasks, *_):
        yield next(iter(tasks.values()))()
        raise KeyboardInterrupt

    monkeypatch.setitem(engines.ENGINES, "here", interrupted)
    with pytest.raises(Stopped, match="stopped with 1 of 4 runs finished; the same") as stop:
        engines.do("here", NONE, studies.plan(), tmp_path)
    assert stop.value.status == 130


@pytest.mark.parametrize(
    ("engine", "package", "extra"), [("ray", "ray", "ray"), ("submitit", "submitit", "slurm")]
)
def test_an_engine_that_is_not_there_says_how_to_install_it(
    monkeypatch, tmp_path, engine, package, extra
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"--engine={engine} needs .* '\.\[{extra}\]'"):
        engines.do(engine, NONE, studies.plan(), tmp_path)


def test_slurm_gets_what_a_run_takes_and_waits_for(monkeypatch, tmp_path):
    """What submitit is told; that it then calls sbatch is its own affair."""
    told, submitted = [], []

    class Job:
        def __init__(self, number, task):
            self.job_id, self._task = str(number), task

        def exception(self):
            return None

        def result(self):
            return [self._task.name]

    class Executor:
        def __init__(self, folder, **options):
            assert (folder, options) == (tmp_path / "jobs", {"slurm_max_num_timeout": 2})

        def update_parameters(self, **parameters):
            told.append(parameters)

        def submit(self, task):
            submitted.append(Job(70 + len(submitted), task))
            return submitted[-1]

    class Submitit:
        AutoExecutor = Executor

        class helpers:
            @staticmethod
            def as_completed(jobs, poll_frequency):
                return reversed(jobs)

    monkeypatch.setitem(sys.modules, "submitit", Submitit)
    plan = studies.plan()
    tasks = {run.name: engines.Task(plan, run.name, tmp_path, False) for run in plan.runs}
    resources = engines.Resources(
        gpus=1, cpus=8, memory_gb=32, hours=1.5, retries=2, slurm={"partition": "gpu"}
    )
    logs = list(engines.ENGINES["submitit"](tasks, engines.waits(plan.runs), resources, tmp_path))
    assert logs == [[name] for name in reversed(list(tasks))]
    shared = {"timeout_min": 90, "cpus_per_task": 8, "gpus_per_node": 1, "mem_gb": 32}
    for name, parameters in zip(tasks, told, strict=True):
        options = {"partition": "gpu"}
        if name == "probe-seed1":
            options["dependency"] = "afterany:70"
        assert parameters == {"name": name, **shared, "slurm_additional_parameters": options}


class TinyTask(engines.Task):
    """A task in a worker that knows the tiny network."""

    def __call__(self, *after):
        tiny.register()
        return super().__call__(*after)


def real_plan(root):
    base = common.get_config()
    base.update_from_flattened_dict(
        {
            "weights": str(root / "tiny.safetensors"),
            "data.examples_per_class": (5,),
            "extract.feature_dir": str(root / "features"),
            "train.batch_size": 16,
            "train.steps": 400,
            "train.eval_every": 20,
            "report": False,
        }
    )
    axes = {"method": {"probe": {"run": "probe"}, "tune": {}}, "seed": (0, 1)}
    return make_plan(study("two of each", base, axes, columns="method"))


def accuracies(plan, folder):
    return [study_folder.standing(folder, run).result["test"]["top1"] for run in plan.runs]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("engines")
    with tiny.registered():
        tiny.write_weights(path / "tiny.safetensors")
    return path


@pytest.fixture(scope="module")
def local(root, tmp_path_factory):
    """What one process finds."""
    folder = tmp_path_factory.mktemp("local")
    with tiny.registered():
        assert work.do(real_plan(root), folder) == []
    return accuracies(real_plan(root), folder)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "submitit"])
def test_workers_find_what_one_process_does_and_one_may_be_killed(
    monkeypatch, root, local, tmp_path, engine
):
    pytest.importorskip(engine)
    monkeypatch.setattr(engines, "Task", TinyTask)
    monkeypatch.setenv("PYTHONPATH", str(commands.ROOT), prepend=os.pathsep)
    monkeypatch.chdir(commands.ROOT)
    plan, killed = real_plan(root), []
    killer = threading.Thread(target=kill_one, args=(tmp_path, killed), daemon=True)
    if engine == "ray":  # submitit's local executor starts nothing again
        killer.start()
    lines = []
    assert engines.do(engine, NONE, plan, tmp_path, log=lines.append) == [], lines
    assert accuracies(plan, tmp_path) == local
    assert sum("test top-1" in line for line in lines) == 4
    assert bool(killed) == (engine == "ray")


def kill_one(folder, killed):
    """Kills the worker of a fine-tuning run that has saved something."""
    log = folder / "runs" / "tune-seed0"
    while tiny.last_step(log) < 40:
        time.sleep(0.1)
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        with_title = status.read_bytes()
        if b"ray::" in with_title and b"_call" in with_title:
            os.kill(int(status.parent.name), signal.SIGKILL)
            killed.append(with_title)
            return
