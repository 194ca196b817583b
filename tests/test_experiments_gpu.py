"""The command: mistakes are one line, and the exit status says whether all went well."""

import functools

import pytest
from absl.testing import flagsaver

from experiments.gpu import __main__ as command
from experiments.gpu import check
from tests import commands

run = functools.partial(commands.run, "experiments.gpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "where to? Give --out=FOLDER"),
        (["folder"], "expected flags such as --out=FOLDER, got 'folder'"),
        (["--test_second=2"], "no flag is called --test_second; the nearest are 'test_seconds'"),
        (["--out={}"], "holds summary.txt of an earlier check; give another --out"),
        (["--out={}/summary.txt/new"], "cannot be written: Not a directory"),
        (["--out={}/new", "--test_seconds=0"], "--test_seconds"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, message):
    (tmp_path / "summary.txt").touch()
    error = run(*(argument.format(tmp_path) for argument in arguments), status=2)
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (False, 1)])
def test_exit_status(monkeypatch, tmp_path, passed, status):
    given = {}
    monkeypatch.setattr(
        check, "check", lambda out, **options: given.update(options, out=out) or passed
    )
    flags = {
        "out": str(tmp_path),
        "test_seconds": "60",
        "benchmark_seconds": "70",
        "processes": "2",
    }
    with flagsaver.as_parsed(**flags), pytest.raises(SystemExit) as stopped:
        command.main(["--gpu_parts=features"])
    assert stopped.value.code == status
    del given["log"]
    assert given == {
        "out": tmp_path, "test_seconds": 60, "benchmark_seconds": 70, "processes": 2,
        "benchmark_flags": ["--gpu_parts=features"]
    }  # fmt: skip
