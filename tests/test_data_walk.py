import os
import unicodedata

import pytest

from tl.data import walk
from tl.data.walk import LeftOut
from tl.errors import UserError


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def below(path, **fields):
    left_out = LeftOut()
    found = [os.path.relpath(p, path) for p in walk.images_below(str(path), left_out, **fields)]
    return found, left_out


def test_links_to_files_and_folders_are_followed(tmp_path):
    touch(tmp_path / "elsewhere/deep/b.jpg")
    touch(tmp_path / "root/z.png")
    (tmp_path / "root/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/a.jpg").symlink_to(tmp_path / "elsewhere/deep/b.jpg")
    found, left_out = below(tmp_path / "root")
    assert found == ["a.jpg", "z.png", "more/deep/b.jpg"] and not str(left_out)


def test_a_folder_that_is_being_walked_is_not_entered_again(tmp_path):
    touch(tmp_path / "a/b/1.jpg")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/b/here").symlink_to(".")
    (tmp_path / "a/root").symlink_to(tmp_path)
    (tmp_path / "a/twice").symlink_to("b")  # not above itself: its images are there twice
    found, left_out = below(tmp_path / "a", above=frozenset({walk.identity(tmp_path)}))
    assert found == ["b/1.jpg", "twice/1.jpg"]
    assert left_out.loops == 5 and str(left_out) == "5 links back to a folder above them"


def test_what_is_left_out_is_counted(tmp_path):
    for name in ("a.jpg", ".DS_Store", "._a.jpg", ".ipynb_checkpoints/a.jpg", "@eaDir/a.jpg/t.jpg",
                 "sub/@eaDir/t.jpg", "__MACOSX/a.jpg", "$Recycle.Bin/a.jpg", "#recycle/a.jpg",
                 "lost+found/a.jpg", "System Volume Information/a.jpg", "notes.TXT", "b.txt",
                 "README", "x.psd", "y.npy"):  # fmt: skip
        touch(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.jpg")
    found, left_out = below(tmp_path)
    assert found == ["a.jpg"]
    assert str(left_out) == (
        "2 .txt, 1 without an ending, 1 .npy, 1 .psd, 2 folders @eaDir, 1 folder #recycle, "
        "1 folder $Recycle.Bin, 1 folder System Volume Information, 1 folder __MACOSX, "
        "1 folder lost+found, 3 hidden, 1 that are no regular files"
    )
    assert left_out.warning() == (
        "left out, though they may be or hold images: 1 .npy, 1 .psd; convert them to JPEG, PNG "
        "or TIFF to have them read"
    )
    assert LeftOut().warning() == ""


def test_heic_without_its_package_names_the_extra():
    left_out = LeftOut()
    left_out.endings[".heic"] += 3
    assert left_out.warning().endswith(
        "images: 3 .heic; HEIC is read once pillow-heif is installed"
    )


def test_links_that_lead_nowhere_are_yielded_for_whoever_reads_them(tmp_path):
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    assert below(tmp_path)[0] == ["gone", "itself.jpg"]


def test_the_order_is_that_of_composed_names(tmp_path):
    composed, decomposed = "é.jpg", unicodedata.normalize("NFD", "è.jpg")
    for name in (composed, decomposed, "z.jpg", "a.jpg"):
        touch(tmp_path / name)
    assert below(tmp_path)[0] == ["a.jpg", "z.jpg", decomposed, composed]
    assert walk.nfc(decomposed) == "è.jpg"


def test_a_folder_that_cannot_be_listed(tmp_path):
    with pytest.raises(UserError, match="nowhere cannot be read: No such file"):
        below(tmp_path / "nowhere")
