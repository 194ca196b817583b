"""Checkpoints in an object store: what counts there, whenever a process is killed."""

from unittest import mock

import pytest

from tl import paths
from tl.errors import UserError
from tl.storage import copies, mirror
from tl.storage.mirror import Mirror


def write(folder, step):
    (folder / f"{step}/state").mkdir(parents=True)
    (folder / f"{step}/state/a").write_text(f"{step}")


def counted(s3):
    """Returns what another process finds: step to content."""
    other = Mirror(s3, "other")
    other.fetch()
    found = {int(path.name): (path / "state/a").read_text() for path in other.folder.iterdir()}
    other.close()
    return found


def test_just_the_published_steps_are_there(s3):
    first = Mirror(s3, "a")
    assert counted(s3) == {}
    for step in (1, 2):
        write(first.folder, step)
    first.publish([1, 2])
    assert counted(s3) == {1: "1", 2: "2"}
    write(first.folder, 3)
    first.publish([2, 3])
    assert counted(s3) == {2: "2", 3: "3"}
    assert not (s3 / "1").exists()
    first.close()
    assert not first.folder.exists()


def test_a_half_sent_checkpoint_does_not_count(s3, monkeypatch):
    first = Mirror(s3, "a")
    write(first.folder, 1)
    first.publish([1])
    write(first.folder, 2)

    def half(folder, path):
        (path / "state/a").write_text("ha")
        raise ConnectionError

    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(copies, "send", half)
        first.publish([1, 2])
    assert counted(s3) == {1: "1"}
    first.publish([1, 2])  # which writes over the half
    assert counted(s3) == {1: "1", 2: "2"}
    first.close()


def test_a_checkpoint_that_goes_leaves_the_index_first(s3, monkeypatch):
    first = Mirror(s3, "a")
    write(first.folder, 1)
    write(first.folder, 2)
    first.publish([1, 2])

    def killed(path):
        (path / "state/a").unlink()
        raise ConnectionError

    removals = ((lambda: first.publish([2]), {2: "2"}), (lambda: mirror.remove(s3), {}))
    for remove, left in removals:
        with monkeypatch.context() as patch, pytest.raises(ConnectionError):
            patch.setattr(paths, "remove_tree", killed)
            remove()
        assert counted(s3) == left
    mirror.remove(s3)
    assert not s3.exists()
    first.close()


def test_an_index_that_cannot_be_read_is_no_empty_one(s3, monkeypatch):
    first = Mirror(s3, "a")
    write(first.folder, 1)
    first.publish([1])
    with monkeypatch.context() as patch, pytest.raises(PermissionError):
        patch.setattr(paths.file_system(s3), "cat_file", mock.Mock(side_effect=PermissionError))
        Mirror(s3, "b").fetch()
    (s3 / "index.json").write_text("[1")
    with pytest.raises(UserError, match=r"index\.json is damaged .* such as"):
        Mirror(s3, "b").fetch()
    first.close()


def test_what_a_kill_left_there_is_removed(s3):
    first = Mirror(s3, "a")
    write(first.folder, 1)
    first.publish([1])
    (s3 / "7/state/a").write_text("half")
    assert mirror.uncounted(s3) == ["7"]
    first.clear()
    assert mirror.uncounted(s3) == []
    assert counted(s3) == {1: "1"}
    first.close()


def test_what_an_earlier_process_left_here_is_removed(s3):
    first = Mirror(s3, "a")
    write(first.folder, 1)
    second = Mirror(s3, "a")
    assert second.folder == first.folder
    assert list(second.folder.iterdir()) == []
    second.close()
