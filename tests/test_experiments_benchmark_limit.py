"""Matrix products of two types, in float32."""

from experiments.benchmark import contest, limit
from experiments.benchmark.contest import Outcome
from tests import contests


def test_operations_a_second():
    # Each of 8^2 results takes 8 products and as many sums, twice a second.
    expected = {"float32": 2048.0, "bfloat16": 2048.0}
    with contests.in_this_process():
        assert limit.measure(8, rounds=3, seconds=0, log=str) == expected


def test_a_type_that_fails_is_missing(monkeypatch):
    outcomes = {"float32": Outcome((1.0,)), "bfloat16": Outcome(error="failed")}
    monkeypatch.setattr(contest, "run", lambda *args, **keywords: outcomes)
    assert limit.measure(1, rounds=1, seconds=0, log=str) == {"float32": 2.0}
