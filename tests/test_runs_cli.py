"""Commands as a user types them; each one is a process of its own."""

import json
import logging
import shutil
import subprocess
import sys
import time

import ml_collections
import pytest

from tests import commands
from tests.commands import ROOT
from tl.errors import UserError
from tl.runs import cli

QUICK = "--config=configs/quickstart.py"


def run(*arguments, module="experiments.probe"):
    return commands.finish(module, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which run? Give --config=FILE; there are bit_hyperrule, cifar10_finetune"),
        (["--config=configs/quickstrt.py"], "no config file is called 'configs/quickstrt.py'"),
        (
            [QUICK, "--config.probe.l3=1"],
            "no field is called --config.probe.l3; the nearest are '--config.probe.l2'",
        ),
        (["--config", "configs/quickstart.py", "--config.seed=1"], "it is --config.seeds"),
        ([QUICK, "--config.train.lr=1"], "no field is called --config.train.lr; it is --config.op"),
        ([QUICK, "--config.seeds=a"], "takes int values such as (0, 1, 2), got 'a'"),
        ([QUICK, "--config.probe.l2=(1,x)"], "--config.probe.l2 takes float values"),
        ([QUICK, "--config.data.test_fraction=a"], "could not convert string to float: 'a'"),
        ([QUICK, "--config.data.skip_corrupt", "false"], "--config.FIELD=VALUE, got 'false'"),
        ([QUICK, "--multihost"], "--multihost needs --workdir=FOLDER, one that all hosts can"),
        (
            [QUICK, "--coordinator=a:1", "--workdir=x"],
            "--coordinator, --num_processes and --process_id are given together",
        ),
        (
            [QUICK, "--coordinator=a:1", "--num_processes=2", "--process_id=2", "--workdir=x"],
            "a --process_id from 0 to --num_processes less 1, got 'a:1' and 2 of 2",
        ),
        ([QUICK, "--workdr=x"], "no flag is called --workdr; the nearest are 'workdir'"),
        ([QUICK, "--workdir=pyproject.toml"], "--workdir=pyproject.toml cannot be written"),
        ([QUICK, "--config.weights=resnet5", "--workdir={tmp}"], "no weight set is called"),
    ],
)
def test_a_mistake_is_one_message(arguments, message, tmp_path):
    done = run(*(a.format(tmp=tmp_path) for a in arguments))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_help_of_a_config_lists_its_fields():
    done = run("--config=quickstart", "--help")
    assert done.stdout.startswith("Fields of configs/quickstart.py:\n  --config.augment.crop=none")
    assert "--config.endpoints=('pixels', 'stem'" in done.stdout


def test_a_start_that_fails_leaves_no_folder(tmp_path):
    done = run(QUICK, "--config.weights=resnet5", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("x = 1", "has no function get_config()"),
        ("def get_config(): return 1 / 0", "ZeroDivisionError"),
        ("def get_config(): return {}['x']", "does not run: KeyError: 'x'"),
    ],
)
def test_a_broken_config_is_one_message(broken, message, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(broken)
    done = run(f"--config={path}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("name", ["probe", "extract", "evaluate", "finetune", "weights"])
def test_help_answers_quickly(name):
    start = time.perf_counter()
    done = run("--help", module=f"experiments.{name}")
    seconds = time.perf_counter() - start
    assert "--config" in done.stdout or name == "weights"
    assert f"python -m experiments.{name}" in done.stdout
    assert seconds < 3.0


@pytest.mark.parametrize(
    ("raised", "status", "err"),
    [
        ('Stopped("stopped by SIGTERM", 143)', 143, "stopped by SIGTERM\n"),
        ("KeyboardInterrupt", 130, ""),
        ('UserError("expected x")', 2, "error: expected x\n"),
        (
            'OSError(28, "No space left on device", "run/result.json")',
            2,
            "error: run/result.json cannot be written or read: No space left on device; mend that "
            "and give the same command again\n",
        ),
        (
            'OSError(36, "File name too long", "x.csv")',
            2,
            "error: x.csv cannot be written or read: File name too long; mend that and give the "
            "same command again\n",
        ),
    ],
)
def test_how_a_run_ends(raised, status, err):
    code = f"""
from tl.runs import cli
from tl.errors import Stopped, UserError

def main(_):
    raise {raised}

cli.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", err)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UserError("no such", field="train.norm"), "--config.train.norm: no such"),
        (UserError("no such", field="unknown"), "unknown: no such"),
        (
            UserError("give `train.freeze=('stem','head')`, or `train.norm`; see `tl.runs`"),
            "give \"--config.train.freeze=('stem','head')\", or --config.train.norm; see `tl.runs`",
        ),
    ],
)
def test_a_command_writes_fields_as_its_flags(error, text):
    fields = {name: f"config.{name}" for name in ("train.norm", "train.freeze")}
    assert cli.with_flags(error, fields) == text


def test_a_reader_that_stops_early_is_no_error():
    command = f"{sys.executable} -m experiments.weights list | head -1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_import_costs_nothing():
    code = "import sys, tl; print(sorted(m for m in ('jax', 'numpy', 'flax') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    # A misspelt flag need not wait for JAX.
    code = "import sys, tl.runs.cli; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_a_run_that_lacks_only_its_page_gets_it(undrawn, probed, tmp_path, monkeypatch, capsys):
    path = shutil.copytree(probed[0], tmp_path / "run")
    written = json.loads((path / "config.json").read_text())
    config = ml_collections.ConfigDict({**written, "report": True})
    (path / "config.json").write_text(json.dumps(config.to_dict()))
    before = (path / "result.json").read_bytes()

    class Values(dict):
        multihost, overwrite, workdir = False, False, str(path)

    values = Values()
    values.config = config
    monkeypatch.setattr(cli.flags, "FLAGS", values)
    with pytest.raises(SystemExit) as ended:
        cli.start_run()
    assert not ended.value.code
    assert f"{path} holds this run, finished but for its page\nreport: " in capsys.readouterr().out
    assert (path / "report.html").read_text().startswith("<!doctype html>")
    assert (path / "result.json").read_bytes() == before


def test_lines_of_the_log_say_warning_and_write_fields_as_flags():
    lines = cli._Lines(lambda: {"data.test": "config.data.test"})
    record = logging.LogRecord("tl", logging.WARNING, "", 0, "give `data.test=%s`", ("val",), None)
    assert lines.format(record) == "warning: give --config.data.test=val"
    record.levelno = logging.INFO
    assert lines.format(record) == "give --config.data.test=val"
