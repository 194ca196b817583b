"""Downloads from a server on this machine, which can cut off, lie and refuse."""

import functools
import hashlib
import pathlib
import threading
import time

import pytest
import requests

from tests.server import CONTENT, serve
from tl.errors import UserError
from tl.weights import download as module
from tl.weights.download import download, with_timeout


def check(path: pathlib.Path):
    if path.read_bytes() != CONTENT:
        raise UserError("other bytes")


def files(folder):
    return {path.name for path in folder.iterdir()} - {"x.lock"}


def test_a_whole_file(tmp_path):
    with serve() as server:
        download(server.url, tmp_path / "deep" / "x", check)
        download(server.url, tmp_path / "deep" / "x", check)  # is there: asks nobody
    assert server.requests == [None]
    assert files(tmp_path / "deep") == {"x"}


def test_a_cut_connection_goes_on_where_it_was_cut(tmp_path):
    with serve(cuts=2) as server:
        download(server.url, tmp_path / "x", check)
    assert server.requests == [None, f"bytes={4 * 65536}-", f"bytes={8 * 65536}-"]
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_later_run_goes_on_where_the_last_one_was_cut(tmp_path):
    with serve(cuts=module.ATTEMPTS, cut=65536) as server:
        with pytest.raises(requests.RequestException):
            download(server.url, tmp_path / "x", check)
        assert files(tmp_path) == {"x.part"}
        download(server.url, tmp_path / "x", check)
    assert server.requests[-1] == f"bytes={65536 * module.ATTEMPTS}-"
    assert files(tmp_path) == {"x"}


def test_a_server_that_cannot_resume_starts_again(tmp_path):
    (tmp_path / "x.part").write_bytes(CONTENT[:5000])
    with serve(ranges=False) as server:
        download(server.url, tmp_path / "x", check)
    assert server.requests == ["bytes=5000-"]
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_part_that_is_whole_is_used(tmp_path):
    (tmp_path / "x.part").write_bytes(CONTENT)
    with serve() as server:
        download(server.url, tmp_path / "x", check)
    assert files(tmp_path) == {"x"}


def test_wrong_bytes_are_not_kept(tmp_path):
    (tmp_path / "x.part").write_bytes(b"y" * 5000)
    with serve() as server:
        with pytest.raises(UserError, match="other bytes"):
            download(server.url, tmp_path / "x", check)
        assert files(tmp_path) == set()
        download(server.url, tmp_path / "x", check)
    assert files(tmp_path) == {"x"}


def test_a_missing_file_leaves_nothing(tmp_path):
    with serve() as server, pytest.raises(requests.HTTPError, match="404"):
        download(f"{server.url}-not", tmp_path / "x", check)
    assert files(tmp_path) == set()


def test_no_server_answers_at_once(tmp_path):
    with serve() as server:
        url = server.url
    with pytest.raises(requests.ConnectionError):
        download(url, tmp_path / "x", check)


def test_two_at_once_ask_once(tmp_path):
    with serve() as server:
        work = functools.partial(download, server.url, tmp_path / "x", check)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 1
    assert (
        hashlib.sha256((tmp_path / "x").read_bytes()).digest() == hashlib.sha256(CONTENT).digest()
    )


def test_an_answer_that_does_not_come_is_not_waited_for():
    started = time.monotonic()
    with pytest.raises(requests.ConnectTimeout, match=r"no answer within 0\.1 s"):
        with_timeout(0.1, lambda: time.sleep(5))
    assert time.monotonic() - started < 2
    assert with_timeout(5, lambda: 3) == 3
    with pytest.raises(KeyError):
        with_timeout(5, lambda: {}["x"])
