"""Which folders are of tars, which splits these are of, and what classes are called."""

import os

import pytest

from tests.shards import write
from tl.data import tar_files
from tl.errors import UserError


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    make(tmp_path, "a.tar")
    monkeypatch.setattr(os, "scandir", denied)
    assert not tar_files.is_folder_of_tars(tmp_path)
    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        tar_files.found_in(tmp_path, ())


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.tar"], True),
        (["a.TAR", "classes.txt", ".hidden/x", "._a.png"], True),
        (["a.tar.gz"], True),
        (["train/a.tar"], True),
        (["Validation/a.tgz", "other/x.txt"], True),
        (["a.tar", "cat/x.jpg"], False),
        (["a.tar", "x.jpg"], False),
        (["train/a.tar", "train/cat/x.jpg"], False),
        (["more/a.tar"], False),
        (["._a.tar"], False),
        (["a.txt"], False),
    ],
)
def test_what_is_a_folder_of_tars(tmp_path, names, expected):
    assert tar_files.is_folder_of_tars(make(tmp_path, *names)) is expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b.tar", "a.tar"], {"": ["a.tar", "b.tar"]}),
        (
            ["train-0.tar", "train-1.tar", "imagenet-val-0.tar", "x_Test.tar"],
            {"train": ["train-0.tar", "train-1.tar"], "val": ["imagenet-val-0.tar"],
             "Test": ["x_Test.tar"]},
        ),
        (["fit-0.tar", "hold-0.tar"], {"fit": ["fit-0.tar"], "hold": ["hold-0.tar"]}),
        (["training.tar", "trainer.tar"], None),
        (["train/b.tar", "train/a.tar", "x/c.tar", "empty/y.txt"],
         {"train": ["a.tar", "b.tar"], "x": ["c.tar"]}),
    ],
)  # fmt: skip
def test_the_tars_of_each_split(tmp_path, names, expected):
    make(tmp_path, *names)
    if expected is None:
        with pytest.raises(
            UserError, match=r"^data.data_dir: the names of 1 of 2 tars of .* such as trainer.tar"
        ):
            tar_files.found_in(tmp_path, ())
        return
    found = tar_files.found_in(tmp_path, ("fit", "hold", ""))
    assert {split: [file.name for file in files] for split, files in found.items()} == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x.txt"], r"^data.data_dir: .* has no .tar; expected FOLDER/train/\*.tar with"),
        (["a.tar", "train/b.tar"], "has tars itself, such as a.tar, and in the folders train"),
        (
            ["a.tar", "b.tar.gz"],
            "has compressed tars, in which images cannot be read one by one",
        ),
        (["train/b.tar.zst"], r"b.tar.zst; decompress them, which makes JPEGs hardly larger"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, names, message):
    with pytest.raises(UserError, match=message):
        tar_files.found_in(make(tmp_path, *names), ())


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match=r"^data.data_dir: there is no folder or tar .*/absent"):
        tar_files.found_in(tmp_path / "absent", ())


def test_names_of_classes(tmp_path, caplog):
    assert tar_files.class_names(tmp_path, ["0", "2"]) == ["0", "2"]
    (tmp_path / "classnames.txt").write_text("cat\ndog\nel o\u0308\n")
    assert tar_files.class_names(tmp_path, ["0", "2"]) == ["cat", "el \xf6"]
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\n\r\na\r\n")
    assert tar_files.class_names(tmp_path, ["0", "1"]) == ["a", "b"]
    for labels, message in (
        (
            ["1", "2"],
            "has no name for the label 2; expected one a line, the first of label 0",
        ),
        (["4"], "has no name for the label 4"),
        (["0", "3"], "gives several labels one name: a; rename some"),
    ):
        with pytest.raises(UserError, match=message):
            tar_files.class_names(tmp_path, labels)
    with caplog.at_level("INFO"):
        assert tar_files.class_names(tmp_path, ["cat", "0"]) == ["cat", "0"]
    assert "classes.txt is not used, for labels are no numbers" in caplog.text
    (tmp_path / "classes.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match="cannot be read as text in UTF-8"):
        tar_files.class_names(tmp_path, ["0"])


def test_a_tar_is_read_by_its_ending(tmp_path):
    assert write(tmp_path / "a.tar", []).suffix == tar_files.ENDING
