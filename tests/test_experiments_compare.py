import json

from tests import commands
from tests.predictions import contender, folder, right
from tl.results.predictions import PREDICTIONS


def test_two_folders(tmp_path):
    for name, count in (("base", 60), ("run", 80)):
        path = folder(tmp_path / name)
        contender(name, right(count)).predictions.save(path / PREDICTIONS)
    base, run, written = (tmp_path / name for name in ("base", "run", "numbers.json"))
    printed = commands.run("experiments.compare", base, run, f"--json={written}")
    assert f"{run} is 20.0 points better than {base} (" in printed
    assert f"written: {written}" in printed
    assert json.loads(written.read_text())["runs"][0]["run"] == str(run)


def test_mistakes(tmp_path):
    error = commands.run("experiments.compare", tmp_path, status=2)
    assert error == (
        "error: expected two folders of runs or more, got 1: "
        "python -m experiments.compare RUN RUN\n"
    )
    error = commands.run("experiments.compare", tmp_path, tmp_path / "b", status=2)
    assert error.startswith(f"error: {tmp_path} is no finished run")
    assert "Traceback" not in error
