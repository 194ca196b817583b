"""Catches SIGTERM and Ctrl-C, so that training can stop after a step."""

import contextlib
import signal
from collections.abc import Collection, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """The signal that asked the process to stop, if any.

    Attributes:
      sent: the signal; None until one is sent.
    """

    sent: signal.Signals | None = None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.sent is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait
        self.sent = signal.Signals(number)


@contextlib.contextmanager
def catch_signals(numbers: Collection[signal.Signals] = SIGNALS) -> Iterator[StopRequest]:
    """Records signals and lets the process run on; only Ctrl-C after another signal stops it.

    Schedulers send SIGTERM some seconds before they kill. Outside the main thread, where Python
    takes no signals, nothing is recorded.
    """
    request = StopRequest()
    before = {}
    with contextlib.suppress(ValueError):  # not the main thread
        for number in numbers:
            before[number] = signal.signal(number, request._receive)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
