import os

import numpy as np
import pytest

from tl.data import content, kinds
from tl.errors import UserError

ABC = "ba7816bf8f01cfea414140de5dae2223"  # SHA-256 of b"abc", its first half; FIPS 180-2, B.1


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "cache_root", lambda: tmp_path / "cache")
    return tmp_path / "cache/content"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a").write_bytes(b"abc")
    (tmp_path / "root/b").write_bytes(b"abcd")
    for name in ("a", "b"):
        os.utime(tmp_path / "root" / name, (10, 10))  # not just now
    return tmp_path / "root"


@pytest.fixture
def read(monkeypatch):
    """The names of the files that were read."""
    names = []
    whole = kinds.read_bytes

    def read_bytes(path):
        names.append(os.path.basename(path))
        return whole(path)

    monkeypatch.setattr(kinds, "read_bytes", read_bytes)
    return names


def names(kept):
    """Returns the paths in a file of the cache, sorted."""
    return sorted(content._Known.read(kept).paths)


def test_hashes_by_hand_and_files_that_cannot_be_read(root, cache):
    (root / "gone").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    a, gone, pipe = content.hash_files(root, ["a", "gone", "pipe"])
    assert a == content.Hashed(3, ABC, "") and content.digest(b"abc") == ABC
    assert gone == (0, "", "No such file or directory") and pipe == (0, "", "not a regular file")


def test_a_file_is_read_once_until_it_changes(root, cache, read):
    first = content.hash_files(root, ["a", "b"])
    assert sorted(read) == ["a", "b"]
    assert content.hash_files(root, ["b", "a"]) == first[::-1] and len(read) == 2
    (root / "a").write_bytes(b"abd")  # of the same size
    os.utime(root / "a", ns=(0, 1))
    changed = content.hash_files(root, ["a"])
    assert read[2:] == ["a"] and changed[0].digest != ABC
    assert content.hash_files(root, ["b"]) == first[1:] and len(read) == 3  # it stayed known
    (kept,) = cache.iterdir()  # one file, and no half of one
    assert names(kept) == ["a", "b"]


def test_a_file_that_changed_just_now_is_read_again(root, cache, read):
    os.utime(root / "a")
    first = content.hash_files(root, ["a", "b"])
    stamp = (root / "a").stat().st_mtime_ns
    (root / "a").write_bytes(b"abd")
    os.utime(root / "a", ns=(stamp, stamp))  # within one tick of the clock
    again = content.hash_files(root, ["a", "b"])
    assert again[0].digest != first[0].digest and again[1] == first[1]
    assert sorted(read) == ["a", "a", "b"]


def test_files_that_are_gone_are_forgotten(root, cache):
    content.hash_files(root, ["a", "b"])
    (root / "b").unlink()
    (root / "c").write_bytes(b"c")
    os.utime(root / "c", (10, 10))
    content.hash_files(root, ["c"])
    (kept,) = cache.iterdir()
    assert names(kept) == ["a", "c"]  # a is there, though not asked for


def test_names_of_any_bytes_inodes_of_64_bits_and_absolute_paths(root, cache, read):
    odd = os.fsdecode(b"\xff\xc3\xa4")
    (root / odd).write_bytes(b"abc")
    os.utime(root / odd, (10, 10))
    paths = [odd, str(root / "a")]
    first = content.hash_files(root, paths)
    assert content.hash_files(root, paths) == first and len(read) == 2
    assert names(next(cache.iterdir())) == sorted(paths)
    assert [content._signed(i) for i in (3, 2**63 - 1, 2**63, 2**64 - 1)] == [
        3, 2**63 - 1, -(2**63), -1,
    ]  # fmt: skip


def test_a_moved_folder_has_the_same_hashes(root, cache, read):
    first = content.hash_files(root, ["a", "b"])
    moved = root.rename(root.with_name("moved"))
    assert content.hash_files(moved, ["a", "b"]) == first and len(read) == 4
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_or_unwritable_cache_is_no_error(root, cache, caplog):
    first = content.hash_files(root, ["a"])
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    with np.load(kept) as arrays:
        there = dict(arrays)
    for damaged in (b"", b"{}", whole[: len(whole) // 2]):
        kept.write_bytes(damaged)
        assert content.hash_files(root, ["a"]) == first
    for name in there:
        others = {n: values for n, values in there.items() if n != name}
        for wrong in ({}, {name: there[name].repeat(2, axis=0)[1:]}):
            with kept.open("wb") as file:
                np.savez(file, **others, **wrong)
            assert content.hash_files(root, ["a"]) == first
    kept.unlink()
    cache.rmdir()
    cache.write_text("no folder")
    assert content.hash_files(root, ["a"]) == first
    assert "cannot be written" in caplog.text and "hashed anew at each start" in caplog.text


class Split:
    def __init__(self, split, contents, labels=()):
        self.split, self._contents, self._labels = split, contents, labels
        self.warnings = []

    def contents(self):
        return np.array(list(self._contents))

    def ids(self):
        return [f"{self.split}/{row}" for row in range(len(self._contents))]

    def labels(self):
        return np.array(self._labels)

    def warn(self, text):
        self.warnings.append(text)


def test_splits_that_share_images_are_refused_with_their_names():
    opened = {"train": Split("train", "abcdea"), "test": Split("test", "xabcd")}
    text = (
        "4 of 5 images of test are in train too, byte for byte: test/1 = train/0, test/2 = "
        "train/1, test/3 = train/2, ..."
    )
    with pytest.raises(UserError) as caught:
        content.check_apart(opened, allow=False)
    assert str(caught.value) == (
        f"{text}; remove them from one of the two, or allow it with `data.allow_duplicates=True`"
    )
    content.check_apart(opened, allow=True)
    assert opened["test"].warnings == [text] and not opened["train"].warnings


def test_every_two_splits_are_compared():
    opened = {"train": Split("t", "ab"), "val": Split("v", "bc"), "test": Split("e", "cd")}
    with pytest.raises(UserError, match=r"1 of 2 images of test are in val .*; 1 of 2 .* of val"):
        content.check_apart(opened, allow=False)
    content.check_apart({"train": Split("t", "aa"), "test": Split("e", "b")}, allow=False)
    content.check_apart({"train": object(), "test": Split("e", "b")}, allow=False)


def test_copies_are_numbered_where_there_are_any():
    assert content.copies(np.array(["b", "a", "b"])).tolist() == [1, 0, 1]
    assert content.copies(np.array(["b", "a"])) is None


def test_equal_images_of_several_classes():
    for labels, warnings in [
        ([0, 1, 1, 0, 1], []),
        ([0, 1, 1, -1, -1], []),  # what has no label is in no class
        ([0, 1, 1, 1, 1], ["1 images are in several classes, byte for byte: train/0 = train/3"]),
    ]:
        source = Split("train", "abcab", labels)
        content.warn_of_several_classes(source)
        assert source.warnings == warnings
