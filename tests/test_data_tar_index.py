"""An index is kept until its tar changes, and then made anew."""

import os
import time

import numpy as np
import pytest

from tests.shards import png, samples, write
from tl.data import content, tar_index, tar_scan
from tl.data.tar_scan import Asked
from tl.errors import UserError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/content"


@pytest.fixture
def scans(monkeypatch):
    """The tars that were read."""
    read, scan = [], tar_scan.scan

    def noting(file, path, *others):
        read.append(path.name)
        return scan(file, path, *others)

    monkeypatch.setattr(tar_scan, "scan", noting)
    return read


def read(path, **asked):
    return tar_index.hashed(tar_index.read(path, Asked(**asked)), Asked(**asked))


def members():
    return [
        *samples(range(3)), ("x.json", '{"url": ""}'), ("._x", ""), ("x.txt", ""), ("no.cls", "1"),
    ]  # fmt: skip


def test_what_was_kept_is_what_was_read(cache, scans, tmp_path):
    path = write(tmp_path / "a.tar", members())
    first = read(path)
    assert first.digests == [*(content.digest(png(i)) for i in range(3)), ""]
    again = read(path)
    assert scans == ["a.tar"]
    for field in ("file", "marks", "keys", "labels", "kind", "left_out", "examples", "fields"):
        assert getattr(again, field) == getattr(first, field), field
    np.testing.assert_array_equal(again.offsets, first.offsets)
    np.testing.assert_array_equal(again.sizes, first.sizes)
    assert again.digests == first.digests
    assert tar_index.hashed(again, Asked()) is again


def test_an_empty_tar_is_kept_too(cache, scans, tmp_path):
    path = write(tmp_path / "a.tar", [])
    assert (read(path).keys, read(path).keys, read(path).digests) == ([], [], [])
    assert scans == ["a.tar"]


@pytest.mark.parametrize("change", ["size", "time", "inode", "asked", "cache"])
def test_what_has_changed_is_read_again(cache, scans, tmp_path, change):
    path = write(tmp_path / "a.tar", members())
    first = read(path)
    asked = {}
    if change == "size":
        write(path, samples(range(60)))
    elif change == "time":
        os.utime(path, (5, 5))
    elif change == "inode":
        write(tmp_path / "b.tar", [*members()[:-1], ("no.cls", "2")]).replace(path)
        os.utime(path, ns=(first.marks[1],) * 2)
    elif change == "asked":
        asked = {"label": "species"}
    else:
        (kept,) = cache.iterdir()
        kept.write_bytes(kept.read_bytes()[:-40])
    again = read(path, **asked)
    assert scans == ["a.tar"] * 2
    assert (len(again.keys), again.labels) != (4, first.labels) or change in ("time", "cache")


def test_a_tar_of_just_now_is_not_kept(cache, tmp_path):
    path = write(tmp_path / "a.tar", members())
    os.utime(path, ns=(time.time_ns(),) * 2)
    read(path)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "file"))
    assert len(read(write(tmp_path / "a.tar", members())).keys) == 4
    assert "cannot be written" in caplog.text and "tars are read anew at each start" in caplog.text


def test_a_tar_that_changes_while_it_is_used(cache, tmp_path):
    path = write(tmp_path / "a.tar", members())
    index = tar_index.read(path, Asked())
    os.utime(path, (5, 5))
    with pytest.raises(UserError, match=r"a.tar has changed since it was listed; give the command"):
        tar_index.hashed(index, Asked())
    path.unlink()
    with pytest.raises(UserError, match=r"a.tar cannot be read: No such file"):
        tar_index.hashed(index, Asked())
    with pytest.raises(UserError, match=r"a.tar cannot be read: No such file"):
        tar_index.read(path, Asked())
