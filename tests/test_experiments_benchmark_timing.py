"""Seconds of calls that a device works off later, on a clock that only the calls move."""

import pytest

from experiments.benchmark import timing


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where a test says so."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def device(clock, each):
    """Returns a call that starts `each` seconds of work, and a wait for all that was started."""
    started = []

    def wait(result):
        assert result == len(started)
        clock[0] += each * (len(started) - waited[0])
        waited[0] = len(started)

    waited = [0]

    def call():
        started.append(None)
        return len(started)

    return call, wait, started


def test_calls_are_started_together_and_waited_for_once(clock):
    call, wait, started = device(clock, 0.25)
    assert timing.seconds_of_call(call, wait, 1.0) == 0.25
    assert len(started) == 1 + 4  # one tells how many fill a second


def test_a_call_longer_than_the_seconds_is_timed_once(clock):
    call, wait, started = device(clock, 3.0)
    assert timing.seconds_of_call(call, wait, 1.0) == 3.0
    assert len(started) == 2


def test_a_sweep_goes_on_without_a_setting_that_fails(clock):
    call, wait, _ = device(clock, 0.5)

    def broken():
        raise RuntimeError("out of memory\nand more")

    small, large, never = ("bfloat16", 1), ("bfloat16", 2), ("bfloat16", 4)
    timings = {small: timing.Timing(), large: timing.Timing(), never: timing.Timing(error="gone")}
    turn = timing.sweep({small: call, large: broken}, timings, wait, 1.0)
    turn()
    assert turn() is timings
    assert timings[small].seconds == [0.5, 0.5]
    assert timings[large].error == "RuntimeError: out of memory" and not timings[large].seconds
    assert timings[never].error == "gone"


def test_a_timing_is_an_outcome():
    outcome = timing.Timing([0.5, 0.25], 3.0).outcome()
    assert (outcome.rates, outcome.peak_mib, outcome.error) == ((2.0, 4.0), 3.0, "")
