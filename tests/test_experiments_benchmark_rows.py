"""Rows and their table, by hand."""

import json

import pytest

from experiments.benchmark import rows
from experiments.benchmark.contest import Outcome

OURS = Outcome((2.0, 4.0, 3.0), peak_mib=100.04)
PEER = Outcome((1.0, 1.0, 1.5), peak_mib=50.0)
FAILED = Outcome(error="failed, ValueError: no")


def test_a_rate():
    row = rows.make(
        "features",
        "images/s",
        {"ours": OURS, "torch": PEER, "keras": FAILED},
        amount=10,
        size=64,
        flops=5.0,
        limit=600.0,
        batch_size=10,
    )
    assert json.loads(json.dumps(row)) == {
        "section": "features",
        "case": "",
        "size": 64,
        "dtype": "float32",
        "unit": "images/s",
        "ours": 30.0,
        "peers": {"torch": 10.0},
        "limit_fraction": 0.25,
        "spread": {"ours": [20.0, 40.0], "torch": [10.0, 15.0]},
        "peak_mib": {"ours": 100.0, "torch": 50.0},
        "failed": {"keras": "failed, ValueError: no"},
        "batch_size": 10,
    }
    assert rows.times_as_good(row, "torch") == 3.0


def test_seconds_are_the_inverse_and_less_is_better():
    row = rows.make("probe", "s", {"ours": OURS, "sklearn": PEER})
    assert row["ours"] == pytest.approx(1 / 3)
    assert row["spread"]["ours"] == [0.25, 0.5]
    assert row["peers"] == {"sklearn": 1.0}
    assert row["limit_fraction"] is None
    assert rows.times_as_good(row, "sklearn") == pytest.approx(3.0)


def test_values_found_once():
    row = rows.of_values("memory", "MiB", {"ours": 8.0, "fsdp": 2.0}, case="a", size=64, devices=4)
    assert (row["ours"], row["peers"], row["spread"], row["devices"]) == (8.0, {"fsdp": 2.0}, {}, 4)
    assert rows.times_as_good(row, "fsdp") == 0.25  # less is better
    assert rows.of_values("memory", "MiB", {}, case="", size=64)["ours"] is None
    shown = rows.table([row]).splitlines()[-1]
    assert shown.split() == ["a", "64", "float32", "MiB", "8", "2", "x0.25"]


def test_an_even_number_of_turns_has_the_median_of_what_is_shown():
    # Of 1/2 and 1 second, not of 2 and 1 a second.
    assert rows.make("probe", "s", {"ours": Outcome((2.0, 1.0))})["ours"] == 0.75


def test_ours_may_fail_too():
    row = rows.make("train", "images/s", {"ours": FAILED, "torch": PEER}, flops=1.0, limit=1.0)
    assert row["ours"] is None and row["limit_fraction"] is None
    assert row["peers"] == {"torch": 1.0}
    lines = rows.table([row]).splitlines()
    assert lines[0].split() == ["train", "type", "unit", "ours", "torch"]
    assert lines[2].split() == ["float32", "images/s", "failed", "1", "(1-1.5)"]


def test_a_table():
    first = rows.make(
        "features", "images/s", {"ours": OURS, "torch": PEER}, size=64, flops=1.0, limit=30.0
    )
    second = rows.make(
        "features", "images/s", {"ours": OURS, "keras": FAILED}, size=112, dtype="bfloat16"
    )
    lines = [line.split("  ") for line in rows.table([first, second]).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0] == [
        "features", "size", "type", "unit", "ours", "torch", "of limit", "peak MiB"
    ]  # fmt: skip
    assert cells[2] == [
        "64", "float32", "images/s", "3 (2-4)", "1 (1-1.5) x3.00", "10%", "100"
    ]  # fmt: skip
    assert cells[3] == ["112", "bfloat16", "images/s", "3 (2-4)", "100"]


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1234"), (99.96, "100"), (12.345, "12.3"), (0.0123456, "0.0123")]
)
def test_three_digits(value, text):
    assert rows._number(value) == text
