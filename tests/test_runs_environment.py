import datetime
import json
import subprocess
import sys

import jax
import numpy as np

from tl.runs import environment


def test_what_is_needed_to_repeat_a_run(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "-m", "experiments.probe", "a b"])
    found = environment.environment()
    assert json.loads(json.dumps(found)) == found
    assert found["command"] == "python -m experiments.probe 'a b'"
    started = datetime.datetime.fromisoformat(found["started"])
    assert abs(datetime.datetime.now(datetime.UTC) - started) < datetime.timedelta(minutes=1)
    assert found["versions"]["jax"] == jax.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert (found["devices"], found["processes"]) == ([{"kind": "cpu", "count": 8}], 1)


def test_a_run_that_the_command_tl_started_is_repeated_by_it(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["/v/bin/python3", "/v/bin/tl", "probe", "a b"])
    assert environment.environment()["command"] == "tl probe 'a b'"


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("jax", "no-such-package"))
    assert environment.environment()["versions"]["no-such-package"] is None


def test_the_revision_says_whether_the_tree_differs(monkeypatch):
    said = {"rev-parse": "0123abc\n", "status": ""}

    def git(command, **_):
        return subprocess.CompletedProcess(command, 0, stdout=said[command[3]])

    monkeypatch.setattr(subprocess, "run", git)
    assert environment.environment()["git"] == "0123abc"
    said["status"] = " M tl/results/metrics.py\n"
    assert environment.environment()["git"] == "0123abc+changes"


def test_without_git_there_is_no_revision(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert environment.environment()["git"] is None
