import io
import logging
import os
import pathlib
import unicodedata

import pyarrow
import pytest
from pyarrow import parquet

from tl.data.listing import Listed, listed
from tl.errors import UserError


@pytest.fixture
def root(tmp_path):
    for name in ("cat/b.jpg", "cat/a.PNG", "cat/deep/c.jpg", "dog/d.jpg", "cat/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "cat/.hidden.jpg").touch()
    return tmp_path


def paths(*names, **options):
    return [item.path for item in listed(map(str, names), **options)]


def test_folders_flat_and_nested(root):
    nested = ["cat/a.PNG", "cat/b.jpg", "cat/deep/c.jpg", "dog/d.jpg"]
    assert paths(root) == [str(root / name) for name in nested]
    assert paths(root / "dog", root / "cat") == [
        str(root / name) for name in ("dog/d.jpg", *nested[:3])
    ]


def test_labels_are_the_folders_below_the_one_given(root):
    assert [item.label for item in listed([str(root)], labelled=True)] == ["cat"] * 3 + ["dog"]
    with pytest.raises(UserError, match=r"d\.jpg has no label; expected it in a folder"):
        list(listed([str(root / "dog")], labelled=True))


def test_an_image_is_scored_once(root):
    table = root / "labels.csv"
    table.write_text("path,label\ncat/b.jpg,cat\ncat/b.jpg,dog\n")
    message = r"cat/b\.jpg comes twice; .* name it once"
    for names in ([table], [root, root / "cat"], [root, table]):
        with pytest.raises(UserError, match=message if table in names else "comes twice|no label"):
            list(listed(map(str, names), label_column="label", labelled=True))
    assert len(paths(table)) == 2  # where nothing is scored it may


def test_globs_and_files(root):
    assert paths(root / "*" / "*.jpg") == [str(root / "cat/b.jpg"), str(root / "dog/d.jpg")]
    assert len(paths(root / "**" / "*.jpg")) == 3
    assert paths(root / "cat/notes.txt") == [str(root / "cat/notes.txt")]  # as it was asked for


def test_standard_input(root):
    assert paths("-", stdin=io.StringIO("a b.jpg\n\nc.jpg\r\n")) == ["a b.jpg", "c.jpg"]


def test_tables(root):
    (root / "t.csv").write_text('image,kind\n"cat/a, b.jpg",cat\ndog/d.jpg,dog\n')
    assert paths(root / "t.csv") == [str(root / "cat/a, b.jpg"), str(root / "dog/d.jpg")]
    labelled = listed([str(root / "t.csv")], labelled=True, label_column="kind")
    assert [item.label for item in labelled] == ["cat", "dog"]
    table = pyarrow.table({"where": ["/a.jpg", "b.jpg"], "label": [0, 1]})
    parquet.write_table(table, root / "t.parquet")
    found = listed(
        [str(root / "t.parquet")], path_column="where", label_column="label", labelled=True
    )
    assert list(found) == [Listed("/a.jpg", "0"), Listed(str(root / "b.jpg"), "1")]


def test_mistakes(root):
    with pytest.raises(UserError, match=r"there is no file or folder .*/nowhere"):
        paths(root / "nowhere")
    (root / "empty").mkdir()
    with pytest.raises(UserError, match=r"no image is in .*/empty; expected files"):
        paths(root / "empty")
    (root / "empty/x.psd").touch()
    with pytest.raises(UserError, match=r"no image is in .*/empty, left out: 1 \.psd; expected"):
        paths(root / "empty")
    (root / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has no column 'path'; there are 'a', 'b'"):
        paths(root / "t.csv")
    with pytest.raises(UserError, match="has no column 'label'"):
        list(listed([str(root / "t.csv")], path_column="a", label_column="label", labelled=True))
    (root / "t.csv").write_text("path,b\n,2\n")
    with pytest.raises(UserError, match="has a row without a 'path'"):
        paths(root / "t.csv")
    (root / "t.jsonl").write_text('{"path": "a.jpg", "label": NaN}\n')
    with pytest.raises(UserError, match=r"/a\.jpg has no label; expected it in a folder of its cl"):
        list(listed([str(root / "t.jsonl")], label_column="label", labelled=True))
    (root / "t.jsonl").write_text('{"path": "\\u0000.png"}\n')
    with pytest.raises(UserError, match=r"t\.jsonl line 1: expected a path, got '\\x00\.png'"):
        paths(root / "t.jsonl")
    (root / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        paths(root / "t.parquet")
    (root / "t.csv").write_bytes(b"path\n\xff.jpg\n")
    with pytest.raises(UserError, match="cannot be read as CSV in UTF-8"):
        paths(root / "t.csv")


def test_a_folder_as_it_lies_on_a_disk(root, caplog):
    (root / "elsewhere").mkdir()
    (root / "elsewhere/e.tif").touch()
    (root / "all").mkdir()
    (root / "all/bee").symlink_to("../elsewhere")
    (root / "all/bee2.jpg").symlink_to(root / "dog/d.jpg")
    (root / "all/back").symlink_to(".")
    (root / "all/@eaDir").mkdir()
    (root / "all/@eaDir/t.jpg").touch()
    (root / "all/x.svg").touch()
    os.mkfifo(root / "all/pipe.jpg")
    with caplog.at_level(logging.INFO):
        found = list(listed([str(root / "all")]))
    assert [item.path for item in found] == [
        str(root / "all" / n) for n in ("bee2.jpg", "bee/e.tif")
    ]
    assert (
        "left out 1 .svg, 1 folder @eaDir, 1 that are no regular files, 1 links back" in caplog.text
    )
    assert "left out, though they may be or hold images: 1 .svg" in caplog.text


def test_labels_are_composed_names(tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "Käfer")).mkdir()
    (tmp_path / unicodedata.normalize("NFD", "Käfer") / "a.jpg").touch()
    assert [item.label for item in listed([str(tmp_path)], labelled=True)] == ["Käfer"]


def test_what_lies_in_an_object_store_goes_by_its_address(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("TL_CACHE", str(tmp_path))
    for name in ("cat/a [1].png", "dog/b.png"):
        (s3 / "images" / name).write_bytes(b"\x89PNG")
    (s3 / "images/list.csv").write_text("path,label\ndog/b.png,dog\ncat/a [1].png,cat\n")
    cat, dog = f"{s3}/images/cat/a [1].png", f"{s3}/images/dog/b.png"
    for names, stdin, expected in (
        ([f"{s3}/images"], None, [cat, dog]),
        ([f"{s3}/images/list.csv"], None, [dog, cat]),
        ([cat], None, [cat]),
        (["-"], [f"{dog}\n", f"{s3}/images/cat\n"], [dog, cat]),
    ):
        found = list(listed(names, stdin=stdin))
        assert [item.name for item in found] == expected
        assert all(pathlib.Path(item.path).read_bytes() == b"\x89PNG" for item in found)
    labelled = listed([f"{s3}/images/list.csv"], label_column="label", labelled=True)
    assert [item.label for item in labelled] == ["dog", "cat"]
    with pytest.raises(UserError, match=f"there is nothing at {s3}/none"):
        list(listed([f"{s3}/none"]))
    with pytest.raises(UserError, match="expected a path of this machine, gs:// or s3://"):
        list(listed(["https://a/b.png"]))
