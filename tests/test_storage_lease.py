"""Leases in an object store: one holder at a time, whatever happens to it."""

import json
import os
import subprocess
import sys
import time

import pytest
from filelock import FileLock, Timeout

from tl.storage import lease
from tl.storage.lease import Lease, lock


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.05)


def of_another(path, process=1, beats=0, boot="another machine"):
    """Writes a lease as a process of another machine does, which then gives no sign of life."""
    described = {"host": "other", "process": process, "boot": boot, "beats": beats}
    path.with_name(f"{path.name}.00000001").write_text(json.dumps(described))


def test_a_disk_has_locks_of_the_system(tmp_path):
    assert isinstance(lock(tmp_path / "a"), FileLock)


def test_one_holds_and_the_next_has_to_wait_for_its_end(s3):
    first, second = lock(s3 / ".lock"), Lease(s3 / ".lock")
    first.acquire()
    assert second.holder().endswith(f", process {os.getpid()}")
    for _ in range(2):
        with pytest.raises(Timeout):
            second.acquire()
    first.release()
    first.release()
    second.acquire()
    with pytest.raises(Timeout):
        first.acquire()
    second.release()
    # One object, whatever the number of holders.
    assert [path.name for path in s3.iterdir()] == [".lock.00000002"]


def test_a_holder_without_a_sign_of_life_is_replaced_after_a_while(s3):
    of_another(s3 / ".lock")
    began = time.monotonic()
    with pytest.raises(Timeout), lock(s3 / ".lock"):
        pass
    assert time.monotonic() - began < 1.0  # it does not wait
    held = lock(s3 / ".lock")
    held.acquire()
    assert time.monotonic() - began > 1.5
    held.release()


def test_later_tries_count_the_time_since_the_first(s3):
    of_another(s3 / ".lock")
    tries = 0
    while True:
        tries += 1
        try:
            with lock(s3 / ".lock"):
                break
        except Timeout:
            time.sleep(0.2)
    assert 4 < tries < 12


def test_a_process_of_this_machine_that_ended_is_replaced_at_once(s3):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    of_another(s3 / ".lock", process=ended.pid, boot=lease._boot())
    began = time.monotonic()
    with lock(s3 / ".lock"):
        assert time.monotonic() - began < 1.0


def test_a_damaged_object_holds_nothing(s3):
    (s3 / ".lock.00000007").write_bytes(b"\x00 no json")
    with lock(s3 / ".lock"):
        assert [path.name for path in s3.iterdir()] == [".lock.00000008"]


def test_a_folder_with_special_characters(s3):
    (s3 / "run1" / "a").write_text("")
    for name in ("run[1]", "run?", "run*"):
        held, other = lock(s3 / name / ".lock"), lock(s3 / name / ".lock")
        held.acquire()
        time.sleep(0.3)
        with pytest.raises(Timeout):
            other.acquire()
        held.release()


def test_a_holder_whose_requests_hang_ends_before_the_lease_is_over(s3):
    code = f"""
import time
from unittest import mock
from tl import paths
from tl.storage import lease
lease.BEAT_SECONDS, lease.LEASE_SECONDS = 0.2, 2.0
held = lease.lock(paths.as_path({str(s3 / ".lock")!r}))
held.acquire()
began = time.monotonic()
with mock.patch.object(paths.RemotePath, "write_bytes", lambda *_: time.sleep(60)):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    began = time.monotonic()
    _, err = holder.communicate(timeout=30)
    assert holder.returncode == 1
    assert time.monotonic() - began < 2.5
    assert f"{s3} has not answered for almost 2 s, so this process has ended" in err


def test_a_holder_that_was_replaced_ends_at_once(s3):
    code = f"""
import time
from tl.paths import as_path
from tl.storage import lease
lease.BEAT_SECONDS = 0.1
held = lease.lock(as_path({str(s3 / ".lock")!r}))
held.acquire()
print("held", flush=True)
time.sleep(60)
print("went on")
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    (s3 / ".lock.00000002").write_text("{}")
    out, err = holder.communicate(timeout=30)
    assert (holder.returncode, out) == (1, "")
    assert f"another process has taken over {s3}, so this process has ended" in err
