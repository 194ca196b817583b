"""Times calls that an accelerator works off later: many settings in one process, turn by turn."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from experiments.benchmark.contest import Outcome

Setting = tuple[str, int]  # type of compute, batch size


@dataclasses.dataclass
class Timing:
    """What was measured of one setting.

    Attributes:
      seconds: of one call, in each turn.
      peak_mib: the most device memory that a call takes, with its inputs.
      error: why there are no seconds, or ''.
    """

    seconds: list[float] = dataclasses.field(default_factory=list)
    peak_mib: float = 0.0
    error: str = ""

    def outcome(self) -> Outcome:
        """Returns it as the outcome of a contest."""
        return Outcome(tuple(1 / s for s in self.seconds), peak_mib=self.peak_mib, error=self.error)


def seconds_of_call(call: Callable[[], Any], wait: Callable[[Any], Any], seconds: float) -> float:
    """Returns the seconds of one of many calls, all started before the last result is waited for.

    Args:
      call: starts work on the device and returns its result.
      wait: returns once a result is there.
      seconds: that the calls take together, about.
    """
    start = time.perf_counter()
    wait(call())
    calls = max(1, math.ceil(seconds / (time.perf_counter() - start)))
    start = time.perf_counter()
    for _ in range(calls):
        result = call()
    wait(result)
    return (time.perf_counter() - start) / calls


def sweep(
    calls: Mapping[Setting, Callable[[], Any]],
    timings: dict[Setting, Timing],
    wait: Callable[[Any], Any],
    seconds: float,
) -> Callable[[], dict[Setting, Timing]]:
    """Returns a function that times every setting once more and returns all timings so far.

    Args:
      calls: setting to a function as for `seconds_of_call`, compiled already.
      timings: of the same settings, and of those that failed before they could be called.
      wait, seconds: see `seconds_of_call`.
    """

    def turn() -> dict[Setting, Timing]:
        for setting, call in calls.items():
            timing = timings[setting]
            if not timing.error:
                try:
                    timing.seconds.append(seconds_of_call(call, wait, seconds))
                except Exception as error:  # out of memory, say: the other settings go on
                    timing.error = first_line(error)
        return timings

    return turn


def first_line(error: Exception) -> str:
    """Returns the name of an exception and the first line of its text."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
