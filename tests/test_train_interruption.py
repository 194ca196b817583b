"""Signals that this process sends itself."""

import os
import signal
import threading

import pytest

from tl.train import interruption


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_nothing_else_happens(number):
    before = signal.getsignal(number)
    with interruption.catch_signals() as request:
        assert request.sent is None
        send(number)
        assert request.sent is number
        assert request.sent.name in ("SIGTERM", "SIGINT")
        assert 128 + request.sent in (143, 130)
    assert signal.getsignal(number) is before


def test_a_second_sigterm_is_patient_too():
    with interruption.catch_signals() as request:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
    assert request.sent is signal.SIGTERM


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_ctrl_c_does_not_wait_once_something_was_sent(first):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruption.catch_signals():
        send(first)
        send(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_handlers_come_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), interruption.catch_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_is_noted():
    seen = []

    def work():
        with interruption.catch_signals() as request:
            seen.append((request.sent, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
