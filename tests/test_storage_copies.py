"""Copies of what lies in an object store."""

import boto3
import pytest

from tl import paths
from tl.errors import UserError
from tl.storage import copies


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def count_fetched(s3, fetched, monkeypatch):
    """Appends the names of files that are fetched from now on to a list."""
    get = paths.file_system(s3).get

    def noted(remote, local):
        fetched.extend(remote)
        get(remote, local)

    monkeypatch.setattr(paths.file_system(s3), "get", noted)


def test_a_path_of_this_machine_is_itself(tmp_path):
    assert copies.local_copy(tmp_path / "no", tmp_path / "cache") == tmp_path / "no"


def test_a_folder_is_copied_and_then_only_what_is_new(s3, tmp_path, monkeypatch):
    files = {"a.txt": b"1", "b/c.txt": b"22", "b/d ä.txt": b"333", "e/": b""}
    for name, content in files.items():
        paths.file_system(s3).pipe_file(f"{s3}/{name}", content)
    copy = copies.local_copy(s3, tmp_path)
    assert copy.name == "here"
    assert contents(copy) == {name: content for name, content in files.items() if name != "e/"}

    fetched = []
    count_fetched(s3, fetched, monkeypatch)
    assert copies.local_copy(s3, tmp_path) == copy
    assert fetched == []
    (s3 / "b/c.txt").write_bytes(b"44")  # of the same size
    (s3 / "a.txt").unlink()
    (s3 / "f.txt").write_bytes(b"5")
    copies.local_copy(s3, tmp_path)
    assert sorted(fetched) == [f"{s3}/b/c.txt", f"{s3}/f.txt"]
    assert contents(copy) == {"b/c.txt": b"44", "b/d ä.txt": b"333", "f.txt": b"5"}


def test_what_a_kill_left_is_fetched_again(s3, tmp_path, monkeypatch):
    for n in range(5):
        (s3 / f"{n}").write_bytes(b"%d" % n)
    monkeypatch.setattr(copies, "_BATCH", 2)
    get = paths.file_system(s3).get

    def fail(remote, local):
        if any(name.endswith("/3") for name in remote):
            raise ConnectionError("cut off")
        get(remote, local)

    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(paths.file_system(s3), "get", fail)
        copies.local_copy(s3, tmp_path)
    fetched = []
    count_fetched(s3, fetched, monkeypatch)
    copy = copies.local_copy(s3, tmp_path)
    assert fetched == [f"{s3}/{n}" for n in (2, 3, 4)]
    assert contents(copy) == {f"{n}": b"%d" % n for n in range(5)}


def test_a_single_file_and_parts_of_a_folder(s3, tmp_path):
    for name in ("model.safetensors", "checkpoints/1/a", "result.json"):
        (s3 / name).write_text(name)
    file = copies.local_copy(s3 / "model.safetensors", tmp_path)
    assert (file.name, file.read_text()) == ("model.safetensors", "model.safetensors")
    folder = copies.local_copy(s3, tmp_path, leave_out=("checkpoints/",))
    assert set(contents(folder)) == {"model.safetensors", "result.json"}


def test_a_class_that_went_leaves_no_folder(s3, tmp_path):
    for name in ("cat/1.png", "dog/1.png", "dog/old/2.png"):
        (s3 / name).write_text(name)
    copy = copies.local_copy(s3, tmp_path)
    paths.remove_tree(s3 / "dog")
    copies.local_copy(s3, tmp_path)
    assert [path.name for path in copy.iterdir()] == ["cat"]
    (s3 / "dog").write_text("a file by now")
    copies.local_copy(s3, tmp_path)
    assert (copy / "dog").read_text() == "a file by now"


def test_a_copy_that_was_cut_is_mended(s3, tmp_path):
    (s3 / "a").write_text("1234")
    copy = copies.local_copy(s3, tmp_path)
    (copy / "a").write_text("12")
    assert (copies.local_copy(s3, tmp_path) / "a").read_text() == "1234"


@pytest.mark.parametrize("names", [("cat", "cat/x"), ("a//b",), ("a/./b",), ("a/../b",)])
def test_names_that_a_disk_cannot_have_are_told(s3, tmp_path, names):
    bucket, _, key = str(s3).removeprefix("s3://").partition("/")
    for name in names:
        boto3.client("s3").put_object(Bucket=bucket, Key=f"{key}/{name}", Body=b"1")
    with pytest.raises(UserError, match=r"a file whose name this machine cannot have: '"):
        copies.local_copy(s3, tmp_path)


def test_a_long_name_is_no_error(s3, tmp_path):
    (s3 / ("x" * 250 + ".png")).write_text("1")
    assert len(list(copies.local_copy(s3, tmp_path).iterdir())) == 1


def test_nothing_there_is_an_error(s3, tmp_path):
    with pytest.raises(UserError, match=rf"^there is nothing at {s3}/none$"):
        copies.local_copy(s3 / "none", tmp_path)
    with pytest.raises(UserError, match=r"a cannot be read: .*The specified bucket does not exist"):
        copies.local_copy(paths.as_path("s3://no-such-bucket-here/a"), tmp_path)


def test_a_name_that_leads_out_of_the_folder_is_refused(s3, tmp_path, monkeypatch):
    found = {f"{str(s3).removeprefix('s3://')}/../../etc": {"size": 1, "ETag": "a"}}
    monkeypatch.setattr(paths.file_system(s3), "find", lambda *_, **__: found)
    with pytest.raises(UserError, match=r"holds a file whose name this machine cannot have: .*etc"):
        copies.local_copy(s3, tmp_path)


def test_a_folder_is_sent(s3, tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_text("1")
    (tmp_path / "d").write_text("2")
    copies.send(tmp_path, s3)
    assert ((s3 / "a/b/c").read_text(), (s3 / "d").read_text()) == ("1", "2")
