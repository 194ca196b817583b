"""Notes a request to stop (SIGTERM, Ctrl-C), so that training can end after a step."""

import contextlib
import signal
from collections.abc import Collection, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Request:
    """Whether somebody asked the process to stop, and how.

    Attributes:
      sent: the signal; None until then.
    """

    sent: signal.Signals | None = None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.sent is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait
        self.sent = signal.Signals(number)


@contextlib.contextmanager
def noted(numbers: Collection[signal.Signals] = SIGNALS) -> Iterator[Request]:
    """Within it, these signals (of Ctrl-C the first) are noted and do nothing else.

    Schedulers send SIGTERM some seconds before they kill. Outside the main thread, where Python
    takes no signals, nothing is noted.
    """
    request = Request()
    before = {}
    with contextlib.suppress(ValueError):  # not the main thread
        for number in numbers:
            before[number] = signal.signal(number, request._receive)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
