"""Contestants take turns in processes of their own; failures and absences stop nobody."""

import functools
import os
import time

import pytest

from experiments.benchmark import contest
from experiments.benchmark.contest import Contestant, Outcome


def sleeper(seconds, journal=None, name=""):
    def work():
        time.sleep(seconds)
        if journal:
            with open(journal, "a") as file:
                file.write(name)
        return name

    return work


def failing_to_build():
    raise RuntimeError("no such model")


def failing_in_a_turn(journal, calls):
    done = 0

    def work():
        nonlocal done
        done += 1
        if done > calls:
            raise ValueError(f"call {done}")
        with open(journal, "a") as file:
            file.write("x")

    return work


def dying():
    return lambda: os._exit(3)


def reading(variable):
    value = os.environ.get(variable)  # read when the process begins, as frameworks do
    return lambda: value


def growing(mib):
    kept = []

    def work():
        kept.append(bytes(b"x" * (mib << 20)))

    return work


def test_turns_go_round_and_the_last_value_comes_back(tmp_path):
    journal, lines = tmp_path / "journal", []
    contestants = [Contestant(name, sleeper, (0, str(journal), name)) for name in "AB"]
    outcomes = contest.run(contestants, rounds=3, seconds=0, log=lines.append)
    assert journal.read_text() == "ABABAB"
    assert {name: outcome.value for name, outcome in outcomes.items()} == {"A": "A", "B": "B"}
    assert [len(outcome.rates) for outcome in outcomes.values()] == [3, 3]
    assert lines == []


def test_a_turn_repeats_the_work_until_the_seconds_have_passed(tmp_path):
    journal = tmp_path / "journal"
    contestant = Contestant("A", sleeper, (0.05, str(journal), "A"))
    outcome = contest.run([contestant], rounds=1, seconds=0.2)["A"]
    calls = len(journal.read_text())
    assert 2 <= calls <= 4  # four of at least 0.05 s, fewer where the machine is busy
    assert 0 < outcome.rates[0] <= 1 / 0.05


def test_medians_by_hand():
    assert Outcome((4.0, 1.0, 2.0)).median == 2.0
    assert Outcome((4.0, 1.0)).median == 2.5


def test_those_that_fail_or_are_missing_are_reported_and_the_rest_goes_on(tmp_path):
    journal, lines = tmp_path / "journal", []
    contestants = [
        Contestant("building", failing_to_build),
        Contestant("absent", sleeper, (0,), ("no_such_package", "os")),
        Contestant("second turn", failing_in_a_turn, (str(journal), 1)),
        Contestant("dying", dying),
        Contestant("sound", sleeper, (0,)),
    ]
    outcomes = contest.run(contestants, rounds=3, seconds=0, log=lines.append)
    assert [outcome.error for outcome in outcomes.values()] == [
        "failed, RuntimeError: no such model",
        "left out, no_such_package is not installed",
        "failed, ValueError: call 2",
        "failed, its process ended with 3",
        "",
    ]
    assert lines == [f"{name}: {o.error}" for name, o in outcomes.items() if o.error]
    assert all(not outcome.rates for outcome in outcomes.values() if outcome.error)
    assert journal.read_text() == "x"
    assert len(outcomes["sound"].rates) == 3


def test_each_process_has_its_own_variables_and_ours_are_left_alone():
    outcomes = contest.run(
        [
            Contestant(
                "set", reading, ("TL_TEST_VARIABLE",), environment={"TL_TEST_VARIABLE": "1"}
            ),
            Contestant("unset", reading, ("TL_TEST_VARIABLE",)),
        ],
        rounds=1,
        seconds=0,
    )
    assert [outcome.value for outcome in outcomes.values()] == ["1", None]
    assert "TL_TEST_VARIABLE" not in os.environ


def test_memory_is_that_of_the_process_itself():
    ballast = bytes(b"x" * (300 << 20))  # ours, which the process must not be charged with
    small, large = (
        contest.run([Contestant("A", growing, (mib,))], rounds=1, seconds=0)["A"]
        for mib in (1, 100)
    )
    assert len(ballast) > (small.peak_mib * 1.5 * 2**20)
    assert 100 <= large.peak_mib - large.ready_mib < 250
    assert small.peak_mib - small.ready_mib < 50


def test_alone_calls_once_with_arguments():
    outcome = contest.alone(os.path.join, "a", "b")
    assert outcome.value == "a/b" and len(outcome.rates) == 1
    assert contest.alone(functools.reduce, log=str).error.startswith("failed, TypeError")


@pytest.mark.parametrize("needs", [(), ("os", "json")])
def test_whoever_has_all_packages_takes_part(needs):
    assert contest.absent(Contestant("A", sleeper, (0,), needs)) == ""
