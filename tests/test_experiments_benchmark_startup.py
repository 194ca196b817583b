"""Commands are timed from start to end, and their memory is theirs."""

import pytest

from experiments.benchmark import contest, startup
from tests import contests


@pytest.fixture(autouse=True)
def in_this_process():
    with contests.in_this_process():
        yield


def test_imports_in_a_new_process():
    (row,) = startup.measure(contests.options(peers=("sklearn",)), {}, str)
    assert (row["section"], row["case"], row["unit"]) == ("startup", "import", "s")
    assert row["ours"] == 0.5 and row["peers"] == {"sklearn": 0.5}
    assert row["peak_mib"]["ours"] > 50  # of the command, not what `here` says of this process


def test_the_quickstart_runs_twice_with_one_cache(monkeypatch):
    commands = []
    monkeypatch.setattr(
        startup, "command", lambda arguments: lambda: commands.append(arguments) or 7.0
    )
    environments = []

    def run(contestants, **keywords):
        environments.extend(dict(c.environment) for c in contestants)
        return contests.here(contestants, **keywords)

    monkeypatch.setattr(contest, "run", run)
    found = startup.measure(contests.options(quickstart="configs/quickstart.py"), {}, str)
    cases = ["import", "quickstart, empty cache", "quickstart, warm cache"]
    assert [row["case"] for row in found] == cases
    assert found[2]["peak_mib"] == {"ours": 7.0}
    assert commands[1][:3] == ["-m", "experiments.probe", "--config=configs/quickstart.py"]
    assert commands[1][3] != commands[2][3]  # folders of two runs
    assert environments[1] == environments[2] and list(environments[1]) == ["TL_CACHE"]


def test_a_command_that_fails_says_how():
    with pytest.raises(RuntimeError, match=r"'raise ValueError\(5\)'\] ended with 1: .*(?s:.*)5"):
        startup.command(["-c", "raise ValueError(5)"])()
