"""Images come from their places in the tars, in any order and in any process."""

import concurrent.futures
import multiprocessing
import os

import numpy as np
import pytest

from tests.shards import png, samples, write
from tl.data import content, sources
from tl.data.tables import Columns
from tl.data.tars import Tars
from tl.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        write(tmp_path / f"s/{number}.tar", samples(range(4 * number, 4 * number + 4)))
    return tmp_path / "s"


def opened(path, **options):
    return Tars(path, Columns(), **options).open({"train": ""})["train"]


def test_rows_in_any_order_and_a_subset(folder):
    source = opened(folder)
    assert isinstance(source, sources.Source) and isinstance(source, content.Identified)
    assert isinstance(source, sources.Placed) and isinstance(source, sources.Grouped)
    rows = [11, 0, 3, 3, 4]
    for example, row in zip(source.examples(rows), rows, strict=True):
        np.testing.assert_array_equal(example["image"], np.full((2, 3, 3), (row, 0, 0)))
        assert (example["id"], example["label"]) == (f"{row:04d}", row % 2)
    assert source.labels().dtype == np.int32 and source.id_bytes == 4
    part = source.subset(np.array([7, 2]), "held").subset(np.array([1]), "one")
    assert (len(part), part.split, part[0]["id"], part.labels().tolist()) == (1, "one", "0002", [0])
    assert part.places().tolist() == source.places()[[2]].tolist()
    assert part.contents().tolist() == [content.digest(png(2))]
    assert part.ids() == ["0002"] and len(set(source.places().tolist())) == 12
    assert source.groups() is None and source.group_names() is None


def test_the_version_is_of_the_images_not_of_the_tars(folder, tmp_path):
    source = opened(folder)
    one = opened(write(tmp_path / "other.tar", samples(range(12))))
    assert sources.identity(one) == {**sources.identity(source)}
    assert (one.name, source.name) == ("other", "s")
    changes = [samples(range(11)), samples(range(12), classes=3), samples(range(12), prefix="a")]
    others = [opened(write(tmp_path / f"{n}.tar", m)).version for n, m in enumerate(changes)]
    pixels = [(name, png(99) if name == "0003.png" else body) for name, body in samples(range(12))]
    others.append(opened(write(tmp_path / "p.tar", pixels)).version)
    assert len({source.version, *others}) == 5


def test_no_tar_stays_open_and_other_processes_read_too(folder):
    source = opened(folder)
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    assert source[5]["id"] == "0005"
    if before is not None:
        assert set(os.listdir("/proc/self/fd")) == before  # none stays open
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        assert pool.submit(source.__getitem__, 6).result()["id"] == "0006"


def test_copies_are_one_group(tmp_path):
    images = [("a.cls", "0"), ("a.png", png(1)), ("b.cls", "1"), ("b.png", png(1))]
    source = opened(write(tmp_path / "a.tar", [*images, ("c.cls", "1"), ("c.png", png(2))]))
    groups = source.groups()
    assert groups[0] == groups[1] != groups[2]
    assert source.warnings == ["1 images are in several classes, byte for byte: a = b"]


def test_an_image_that_does_not_decode(tmp_path):
    path = write(tmp_path / "a.tar", [*samples(range(4)), ("bad.cls", "1"), ("bad.png", b"")])
    with pytest.raises(UserError, match=r"a: the image bad cannot be decoded .*skip_corrupt"):
        opened(path)[4]
    example = opened(path, skip_corrupt=True)[4]
    assert (example["label"], example["image"].shape) == (-1, (1, 1, 3))


def test_a_label_without_an_image_is_a_row_that_is_left_out(tmp_path):
    path = write(tmp_path / "a.tar", [*samples(range(4)), ("x.cls", "1"), ("y.cls", "1")])
    source = opened(path, skip_corrupt=True)
    assert len(source) == 6 and source[4]["label"] == -1
    assert source.contents().tolist()[4:] == ["absent x", "absent y"]
    assert [str(data) for data, _, _ in source.encoded([5])] == [
        "[Errno 0] its tar has a label, but no image"
    ]


def test_a_tar_that_changes_after_it_was_opened(folder):
    source = opened(folder)
    write(folder / "1.tar", samples(range(4, 9)))
    assert source[0]["id"] == "0000"
    with pytest.raises(UserError, match=r"1.tar has changed since it was listed; give the command"):
        source[5]
