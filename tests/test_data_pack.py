"""Packs are written whole or not at all, and hold what their sources hold."""

import io
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from tests import shapes
from tests.toy import NoiseSource
from tl.data import pack, packed, sources
from tl.data.digits import Digits
from tl.data.folder import open_splits
from tl.data.images import Images
from tl.data.sources import Data
from tl.errors import UserError


def jpeg(seed, size=(11, 9)):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def photographs(root, count=5):
    """Writes a folder of two classes, each with an image that has a copy."""
    for name in ("cat", "dög"):
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"p{i // 2}_{i}.jpg").write_bytes(jpeg(ord(name[0]) * 100 + max(1, i)))
    return root


def files_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_same(found, expected):
    """Asserts that two sources are the same to whatever reads them."""
    assert sources.identity(found) == sources.identity(expected)
    for name in ("name", "classes", "image_shape", "id_bytes"):
        assert getattr(found, name) == getattr(expected, name), name
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.labels(), expected.labels())
    assert found.labels().dtype == np.int32
    ours, theirs = sources.groups(found), sources.groups(expected)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        np.testing.assert_array_equal(ours, theirs)
    for row in range(len(expected)):
        ours, theirs = found[row], expected[row]
        np.testing.assert_array_equal(ours["image"], theirs["image"])
        assert (ours["label"], ours["id"]) == (theirs["label"], theirs["id"])


def opened(folder, **fields):
    return sources.open_sources(Data("folder", str(folder), **fields))


@pytest.mark.parametrize("pattern", ["", r"(p\d)_"])
@pytest.mark.parametrize("shard_bytes", [1, 3000, 1 << 20])
def test_a_folder(tmp_path, pattern, shard_bytes):
    root = photographs(tmp_path / "photos")
    expected = opened(root, group_pattern=pattern)
    pack.write(expected, tmp_path / "pack", shard_bytes=shard_bytes)
    found = opened(tmp_path / "pack")
    assert found.keys() == {"train", "test"}
    for part, source in expected.items():
        assert_same(found[part], source)
    names = found["train"].group_names()
    assert (names is None) == (not pattern)
    if pattern:
        assert names.tolist() == expected["train"].group_names().tolist()


def test_splits_that_are_there_keep_their_names_in_the_identity(tmp_path):
    for split in ("training", "validation", "test"):
        photographs(tmp_path / "photos" / split)
    data = {"train": "training", "allow_duplicates": True}
    expected = opened(tmp_path / "photos", **data)
    pack.write(expected, tmp_path / "pack")
    found = opened(tmp_path / "pack", **data)
    assert list(found) == ["train", "test", "val"]
    for part, source in expected.items():
        assert_same(found[part], source)
        assert found[part].warnings == source.warnings
    assert "byte for byte" in found["val"].warnings[0]


def test_arrays_and_images_of_one_small_shape(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 5, 7, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(12) % 2, groups=np.arange(12) // 2)
    expected = opened(tmp_path / "a.npz", test_fraction=0.3)
    digits = {"train": Digits("train"), "test": Digits("test")}
    for number, parts in enumerate((expected, digits)):
        pack.write(parts, tmp_path / f"pack{number}")
        found = opened(tmp_path / f"pack{number}")
        for part, source in parts.items():
            assert_same(found[part], source)
    assert found["train"].image_shape == (8, 8, 3)


def test_a_set_of_tfds(tmp_path):
    expected = shapes.of(shapes.prepare(tmp_path / "tfds"), train="train[:60%]")
    pack.write(expected, tmp_path / "pack")
    found = opened(tmp_path / "pack")
    assert found["train"].split == "train[:60%]"
    for part, source in expected.items():
        assert_same(found[part], source)


def test_encoded_bytes_are_kept_and_the_index_tells_of_them(tmp_path):
    root = photographs(tmp_path / "photos")
    pack.write(open_splits(str(root), Data("folder").wanted(False)), tmp_path / "pack")
    source = opened(tmp_path / "pack")["train"]
    table = parquet.read_table(tmp_path / "pack/train.parquet")
    assert table.column_names[:4] == ["id", "label", "bytes", "digest"]
    for (data, label, id_), row in zip(source.encoded(range(len(source))), table.to_pylist()):
        assert data == (root / id_).read_bytes()
        assert (row["id"], row["label"], row["bytes"]) == (id_, label, len(data))


def test_an_unlabelled_folder_is_packed_and_a_probe_refuses_it(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(jpeg(0))
    data = Data("folder", str(tmp_path / "photos"))
    expected = sources.open_sources(data, labelled=False)
    pack.write(expected, tmp_path / "pack")
    at = Data("folder", str(tmp_path / "pack"))
    assert_same(sources.open_sources(at, labelled=False)["train"], expected["train"])
    with pytest.raises(UserError, match=r"must have two classes or more, but was packed with 0;"):
        sources.open_sources(at)


def test_an_image_that_cannot_be_read_is_an_error_or_a_row(tmp_path):
    root = photographs(tmp_path / "photos")
    os.symlink(tmp_path / "nowhere.jpg", root / "cat/p9_broken.jpg")
    (root / "dög/p9_text.jpg").write_bytes(b"no image")
    wanted = Data("folder").wanted(False)
    expected = open_splits(str(root), wanted, skip_corrupt=True)
    pack.write(expected, tmp_path / "pack")
    found = opened(tmp_path / "pack", skip_corrupt=True)
    bad = [
        example["id"]
        for source in found.values()
        for example in source.examples(range(len(source)))
        if example["label"] < 0
    ]
    assert sorted(bad) == ["cat/p9_broken.jpg", "dög/p9_text.jpg"]
    (part,) = [part for part, s in expected.items() if "cat/p9_broken.jpg" in s.ids()]
    row = expected[part].ids().index("cat/p9_broken.jpg")
    with pytest.raises(
        UserError,
        match=r"it cannot be read: it was empty, or could not be read, when",
    ):
        opened(tmp_path / "pack")[part][row]
    expected[part].skip_corrupt = False
    with pytest.raises(UserError, match=r"cat/p9_broken.jpg cannot be read"):
        pack.write(expected, tmp_path / "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pack", "photos"]


def test_a_file_that_changed_meanwhile(tmp_path):
    root = photographs(tmp_path / "photos")
    expected = opened(root)
    (root / expected["train"].ids()[1]).write_bytes(jpeg(77))
    with pytest.raises(UserError, match=r"has changed since it was listed"):
        pack.write(expected, tmp_path / "pack")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_there_is_not_replaced(tmp_path, kind):
    path = tmp_path / "pack"
    {
        "file": lambda: path.write_text(""),
        "folder": path.mkdir,
        "link": lambda: path.symlink_to(tmp_path / "nowhere"),
    }[kind]()
    with pytest.raises(UserError, match=r"pack is there already; give another name, or remove it"):
        pack.write({"train": NoiseSource(3)}, path)


def test_killed_half_way_nothing_is_taken_for_data(tmp_path, caplog):
    code = textwrap.dedent(
        f"""
        import pathlib
        import time
        from tests.toy import NoiseSource
        from tl.data import pack

        class Slow(NoiseSource):
            def __getitem__(self, row):
                if row == 70:
                    print("half way", flush=True)
                    time.sleep(60)
                return super().__getitem__(row)

        folder = pathlib.Path({str(tmp_path / "pack")!r})
        pack.write({{"train": Slow(100)}}, folder, shard_bytes=999)
        """
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half way\n"
        process.send_signal(signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".pack.") and any(left.iterdir())
    assert not packed.is_pack(left)
    with pytest.raises(UserError):
        opened(tmp_path)  # a hidden folder is no class
    pack.write({"train": NoiseSource(3)}, tmp_path / "pack")
    assert f"packing was stopped before, or goes on: remove {left} unless" in caplog.text
    assert packed.Pack(tmp_path / "pack").splits() == {"train": 3}


def test_what_is_interrupted_is_removed(tmp_path):
    class Interrupted(NoiseSource):
        def __getitem__(self, row):
            if row == 2:
                raise KeyboardInterrupt
            return super().__getitem__(row)

    with pytest.raises(KeyboardInterrupt):
        pack.write({"train": Interrupted(5)}, tmp_path / "deep/pack")
    assert not any((tmp_path / "deep").iterdir())


def test_a_part_without_images_and_a_place_that_cannot_be_made_are_refused(tmp_path):
    opened = sources.open_sources(Data("folder", str(photographs(tmp_path / "PHOTOS"))))
    with pytest.raises(UserError, match="images: test has no image, so no command could read it"):
        pack.write({**opened, "test": Images([])}, tmp_path / "P")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file cannot be made: File exists"):
        pack.write(opened, tmp_path / "file" / "P")


def test_a_file_that_was_emptied_meanwhile_has_changed_too(tmp_path):
    opened = sources.open_sources(Data("folder", str(photographs(tmp_path / "PHOTOS"))))
    emptied = tmp_path / "PHOTOS" / opened["train"].ids()[0]
    emptied.write_bytes(b"")
    with pytest.raises(UserError, match=r"has changed since it was listed"):
        pack.write(opened, tmp_path / "pack")
