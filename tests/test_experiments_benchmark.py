"""The command: a small run in processes of their own, and mistakes that are one line."""

import functools
import json

import pytest

from tests import commands

run = functools.partial(commands.run, "experiments.benchmark")


@pytest.mark.slow
def test_a_small_probe_beside_scikit_learn(tmp_path):
    shown = run(
        f"--workdir={tmp_path / 'new'}", "--sections=probe", "--peers=sklearn", "--rounds=1",
        "--probe_rows=200", "--probe_features=8", "--probe_classes=3",
    )  # fmt: skip
    result = json.loads((tmp_path / "new" / "benchmark.json").read_text())
    for row in result["rows"]:
        assert row["section"] == "probe" and row["size"] == "200x8x3"
        assert row["ours"] > 0 and row["peers"]["sklearn"] > 0
        assert row["peak_mib"]["ours"] > 100 and row["failed"] == {}
    assert "45 strengths  200x8x3" in shown and "written: " in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "where to? Give --workdir=FOLDER"),
        (["--size=64"], "no flag is called --size; the nearest are 'sizes'"),
        (["--workdir={}", "--sizes=64,big"], "expected --sizes to be whole numbers such as 64,"),
        (["--workdir={}", "probe"], "expected flags such as --sections=features, got 'probe'"),
        (["--workdir={}", "--sections=speed"], "--sections: there is no 'speed'"),
        (["--workdir={}"], "holds a benchmark; give another --workdir, or --overwrite"),
        (["--workdir={}/benchmark.json/a"], "cannot be written: Not a directory"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, message):
    (tmp_path / "benchmark.json").touch()
    error = run(*(argument.format(tmp_path) for argument in arguments), status=2)
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
