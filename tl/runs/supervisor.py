"""Runs a command that has joined other hosts as a child, and says in a sentence how it ended.

Where a process of a run is gone, JAX ends the others from C++: by SIGABRT, after a dump of its
stack, at a moment when no Python is run. So it takes a second process to say what has happened.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import BinaryIO, NoReturn

_VARIABLE = "TL_SUPERVISED"  # set for the child: the descriptor that ends with its parent
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Lines of JAX's service: those that begin its report, which ends the process; and those that say
# what the run says itself.
_REPORT = re.compile(
    rb"^[EF]\d{4} [\d:.]+ +\d+ (coordination_service\w*\.cc|preemption_sync_manager\.cc|client\.h):"
)
_CHATTER = re.compile(rb"^(\[Gloo\] Rank \d+ is connected|[IW]\d{4} .* preemption_notifier\.cc:)")
GONE_STATUS = 1


def is_child() -> bool:
    """Returns whether this process is one that `run` has started."""
    return _VARIABLE in os.environ


def run() -> NoReturn:
    """Runs this process's command again, as a child, and ends as it does.

    Signals go on to the child, which has a process group of its own. If this process is killed,
    the child ends at once (`end_with_parent`).
    """
    read, write = os.pipe()
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env={**os.environ, _VARIABLE: str(read)},
        pass_fds=(read,),
        process_group=0,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for number in _FORWARDED:
        signal.signal(number, lambda number, _: child.send_signal(number))
    os.close(read)
    assert child.stdout is not None and child.stderr is not None
    results = threading.Thread(target=forward, args=(child.stdout, sys.stdout.buffer))
    results.start()
    report = forward(child.stderr, sys.stderr.buffer)
    results.join()
    status = child.wait()
    os.close(write)
    if status == -signal.SIGABRT and (sentence := explain(report.decode(errors="replace"))):
        print(sentence, file=sys.stderr)
        sys.exit(GONE_STATUS)
    sys.stderr.buffer.write(report)
    sys.exit(status if status >= 0 else 128 - status)


def end_with_parent() -> None:
    """Ends this process, at once and whatever it does, when its supervisor is gone."""
    descriptor = int(os.environ[_VARIABLE])

    def wait() -> None:
        os.read(descriptor, 1)  # nobody writes: it returns when the other end is closed
        os._exit(GONE_STATUS)

    threading.Thread(target=wait, daemon=True).start()


def forward(lines: Iterable[bytes], to: BinaryIO) -> bytes:
    """Writes lines as they come, but for JAX's report of its end, and returns that."""
    held = b""
    for line in lines:
        if held or _REPORT.match(line):
            held += line
        elif not _CHATTER.match(line):
            with contextlib.suppress(BrokenPipeError):  # the reader, such as head, has seen enough
                to.write(line)
                to.flush()
    return held


def explain(report: str) -> str:
    """Returns a sentence for JAX's report that other processes are gone; '' for another report."""
    if found := re.search(r"stopped sending heartbeats\):\s*([\d,\s]*\d)", report):
        gone = re.findall(r"\d+", found[1])
    elif "Failed to send RPC to coordination service" in report or "Service/Heartbeat" in report:
        gone = ["0"]  # with whom the others register and exchange signs of life
    elif "Service/RegisterTask" in report:
        from tl import hosts  # imports JAX, which the parent does without

        return (
            "error: the other processes of this run did not come within "
            f"{hosts.JOIN_SECONDS} s; start the same command on every host, each with its own "
            "--process_id, and give a --coordinator whose port all of them can reach"
        )
    else:
        return ""
    named = f"process {gone[0]} has" if len(gone) == 1 else f"processes {', '.join(gone)} have"
    return (
        f"error: {named} ended, or not answered for the seconds of --heartbeat, so this process "
        "has ended too; what it printed there says why. Once that is mended, the same command on "
        "every host goes on from what is saved"
    )
