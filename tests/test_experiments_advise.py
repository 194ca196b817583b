import functools
import json

import pytest

from tests import commands

run = functools.partial(commands.run, "experiments.advise")


@pytest.mark.slow
def test_digits(tmp_path, monkeypatch):
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XLA_FLAGS", "")  # as users have it: a device a core, sooner compiled
    arguments = (
        "--config=configs/quickstart.py",
        "--config.data.examples_per_class=(5,)",
        "--config.preprocess.size=32",
        "--config.report=false",
        f"--workdir={tmp_path / 'run'}",
    )
    printed = run(*arguments)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["kind"] == "advise"
    assert result["verdict"]["size"] == "small"
    assert 0 < result["similarity"]["head_entropy"] < 1
    assert [row["endpoint"] for row in result["endpoints"]][-2] == "pooled"
    assert printed.splitlines()[-4:-2] == ["Run next:", result["command"]]
    flags = "--config=configs/quickstart.py '--config.data.examples_per_class=(5,)'"
    assert f" -m experiments.probe {flags} " in result["command"]
    assert "--config.preprocess.size=32 --config.report=false" in result["command"]
    assert (tmp_path / "run" / "environment.json").exists()
    assert "holds a finished run" in run(*arguments, status=2)


def test_mistakes():
    assert "no flag is called --image; the nearest are 'images'" in run(
        "--config=configs/quickstart.py", "--image=3", status=2
    )
