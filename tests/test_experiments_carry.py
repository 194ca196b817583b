"""The command: mistakes are one line."""

import functools

import pytest

from tests import commands

run = functools.partial(commands.run, "experiments.carry")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "where to? Give --into=FOLDER"),
        (["folder"], "expected flags such as --into=FOLDER, got 'folder'"),
        (["--info={}/new"], "no flag is called --info; the nearest are 'into'"),
        (["--into={}"], "expected --into to be a new or an empty folder, got "),
        (["--into={}/new", "--have={}/none"], "none cannot be read: No such file or directory"),
        (["--into={}/new", "--python=3.10"], "expected --python to be >=3.11, which tl needs, got"),
        (
            ["--into={}/new", "--python=three"],
            "expected --python to be a version such as 3.12, got",
        ),
        (["--into={}/new", "--platform=arm"], "expected --platform to be x86_64 or aarch64, got"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, message):
    (tmp_path / "file").touch()
    error = run(*(argument.format(tmp_path) for argument in arguments), status=2)
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "new").exists()
