"""A folder of tars is data as any other: splits, labels, classes, copies, groups and packs."""

import io
import tarfile

import numpy as np
import pytest

from tests.shards import png, samples, write
from tl.data import pack, sources
from tl.data.sources import Data
from tl.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "shards"


def lengths(opened):
    return {part: len(source) for part, source in opened.items()}


def texts(names):
    """Yields the members of images whose labels in JSON are some names."""
    for value, name in enumerate(names):
        yield f"{value}.jpg", png(value)
        yield f"{value}.json", f'{{"label": "{name}"}}'


@pytest.mark.parametrize("form", ["{}-0.tar", "set-{}-000.tar", "{}/0.tar"])
def test_splits_by_names_and_by_folders(root, form):
    write(root / form.format("train"), samples(range(6)))
    write(root / form.format("validation"), samples(range(10, 12)))
    write(root / form.format("test"), samples(range(20, 23)))
    for name in ("folder", "webdataset"):
        opened = sources.open_sources(Data(name, str(root)))
        assert lengths(opened) == {"train": 6, "val": 2, "test": 3}
        assert all(isinstance(source, sources.Source) for source in opened.values())
    assert opened["test"].classes == ("0", "1") and opened["test"].name == "shards"
    one = sources.open_source(Data("folder", str(root)), "test", field="data.test")
    assert one.version == opened["test"].version
    with pytest.raises(UserError, match=r"^data.test: .*shards has no split 'hold'; there are"):
        sources.open_sources(Data("folder", str(root), test="hold"))
    with pytest.raises(UserError, match=r"^data.group_column: such data have no groups by it"):
        sources.open_sources(Data("folder", str(root), group_column="a"))


def test_splits_of_other_names(root):
    write(root / "fit-0.tar", samples(range(6)))
    write(root / "hold-0.tar", samples(range(10, 12)))
    data = Data("folder", str(root), train="fit", test="hold")
    assert lengths(sources.open_sources(data)) == {"train": 6, "test": 2}


def test_an_unsplit_set_is_divided_as_a_folder_is(root):
    write(root / "0.tar", samples(range(6)))
    write(root / "1.tar", samples(range(6, 10)))
    opened = sources.open_sources(Data("folder", str(root)))
    assert lengths(opened) == {"train": 8, "test": 2}
    assert sorted(opened["train"].ids() + opened["test"].ids()) == [f"{i:04d}" for i in range(10)]
    assert lengths(sources.open_sources(Data("folder", str(root / "0.tar")))) == {
        "train": 4, "test": 2,
    }  # fmt: skip
    assert len(sources.open_source(Data("folder", str(root)), "")) == 10


def test_no_test_split_is_held_out_with_a_warning(root):
    write(root / "train-0.tar", samples(range(10)))
    opened = sources.open_sources(Data("folder", str(root)))
    assert lengths(opened) == {"train": 8, "test": 2}
    assert any("there is no 'test': 2 of the 10" in text for text in sources.warnings(opened))


def test_numbers_and_texts_as_classes(root):
    write(root / "train.tar", samples(range(24), classes=12))
    write(root / "test.tar", samples([30, 31]))
    opened = sources.open_sources(Data("folder", str(root)))
    assert opened["train"].classes == tuple(map(str, range(12)))
    assert opened["train"].labels().tolist() == [i % 12 for i in range(24)]
    (root / "classes.txt").write_text("\n".join("abcdefghijkl"))
    assert sources.open_sources(Data("folder", str(root)))["train"].classes[11] == "l"
    write(root / "train.tar", texts(["wren", "auk", "wren"]))
    write(root / "test.tar", [("x.jpg", png(9)), ("x.json", '{"class": "auk"}')])
    opened = sources.open_sources(Data("folder", str(root)))
    assert opened["train"].classes == ("auk", "wren")
    assert opened["train"].labels().tolist() == [1, 0, 1]
    assert opened["test"].labels().tolist() == [0]


def test_labels_that_differ_between_tars(root):
    write(root / "train-0.tar", samples(range(4)))
    write(root / "train-1.tar", texts(["cat"]))
    with pytest.raises(UserError, match=r"a number \(.*train-0.tar\) and a text \(.*train-1.tar\)"):
        sources.open_sources(Data("folder", str(root)))


def test_a_class_that_train_lacks(root):
    write(root / "train-0.tar", samples(range(4)))
    write(root / "test-0.tar", [("z.png", png(8)), *samples(range(10, 15), classes=5)])
    with pytest.raises(UserError, match=r"shards: 0012: train has no class '2'; the classes of 3"):
        sources.open_sources(Data("folder", str(root)))


def test_one_class_alone_is_for_features(root):
    write(root / "a.tar", samples(range(4), classes=1))
    with pytest.raises(UserError, match=r"^data.train: expected two classes or more, got '0'"):
        sources.open_sources(Data("folder", str(root)))
    assert len(sources.open_sources(Data("folder", str(root)), labelled=False)["train"]) == 3


def test_images_without_labels(root):
    unlabelled = [("x.png", png(90)), ("y.png", png(91)), ("y.cls", "-1")]
    write(root / "train.tar", [*samples(range(6)), *unlabelled])
    write(root / "test.tar", samples(range(10, 14)))
    opened = sources.open_sources(Data("folder", str(root)))
    assert opened["train"].labels().tolist() == [0, 1, 0, 1, 0, 1, -1, -1]
    assert opened["train"].warnings == ["2 of 8 images of train have no label (-1): left out"]


def test_no_labels_at_all(root):
    write(root / "a.tar", [("x.png", png(1)), ("x.json", '{"url": 1, "species": "a"}')])
    with pytest.raises(UserError) as error:
        sources.open_sources(Data("folder", str(root)))
    assert str(error.value) == (
        f"no image of train of {root} has a label; expected KEY.cls with an integer, or KEY.json "
        "with one of the fields label, cls, class, target, category, class_name, label_name, "
        "labels, y; the fields of KEY.json are url, species. `data.label_column` names another "
        "field"
    )
    opened = sources.open_sources(Data("folder", str(root)), labelled=False)
    assert (lengths(opened), opened["train"].classes) == ({"train": 1}, ())
    assert opened["train"].labels().tolist() == [0]


def test_columns_name_a_field_and_an_ending(root):
    members = [
        item
        for i in range(6)
        for item in (
            (f"{i}.left.jpg", png(i)), (f"{i}.right.jpg", png(50 + i)),
            (f"{i}.json", f'{{"label": 0, "species": "s{i % 2}"}}'),
        )
    ]  # fmt: skip
    write(root / "a.tar", members)
    with pytest.raises(UserError) as error:
        sources.open_sources(Data("folder", str(root)))
    assert "6 labels have no image" not in str(error.value)
    assert "no image is in the 1 tars of" in str(error.value)
    assert "whose key ends at the first dot of the name; other members are such as 0.left.jpg" in (
        str(error.value)
    )
    data = Data("folder", str(root), image_column="right.jpg", label_column="species")
    opened = sources.open_sources(data)
    assert opened["train"].classes == ("s0", "s1")
    assert opened["test"][0]["image"][0, 0, 0] >= 50


def test_labels_without_images(root):
    write(root / "a.tar", [*samples(range(10)), ("x.cls", "1")])
    data = Data("folder", str(root))
    with pytest.raises(UserError, match=r"1 labels have no image, such as .*a.tar: x; write these"):
        sources.open_sources(data)
    opened = sources.open_sources(Data("folder", str(root), skip_corrupt=True))
    assert sum(lengths(opened).values()) == 11
    write(root / "a.tar", [("x.cls", "1")])
    with pytest.raises(UserError, match=r"no image is in the 1 tars of"):
        sources.open_sources(Data("folder", str(root), skip_corrupt=True))


def test_an_image_that_is_a_hard_link(root):
    link = tarfile.TarInfo("x.png")
    link.type, link.linkname = tarfile.LNKTYPE, "0000.png"
    write(root / "a.tar", [*samples(range(10)), ("x.cls", "1"), link])
    with pytest.raises(UserError, match=r"no image, such as .*: x; .*left out: 1 members .* links"):
        sources.open_sources(Data("folder", str(root)))


def test_an_empty_tar_beside_others_and_alone(root):
    write(root / "train-0.tar", samples(range(10)))
    write(root / "train-1.tar", [])
    assert lengths(sources.open_sources(Data("folder", str(root)))) == {"train": 8, "test": 2}
    (root / "train-0.tar").unlink()
    with pytest.raises(UserError, match=r"no image is in the 1 tars of train; expected members"):
        sources.open_sources(Data("folder", str(root)))


def test_what_is_left_out_is_told(root, caplog):
    link = tarfile.TarInfo("l.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    write(root / "a.tar", [*samples(range(10)), ("0009.npy", ""), ("._a.png", ""), link])
    with caplog.at_level("INFO"):
        opened = sources.open_sources(Data("folder", str(root)))
    assert "10 images of 2 classes in 1 tars; left out: 1 .npy, 1 hidden" in caplog.text
    first, second = opened["train"].warnings
    assert first.startswith("left out, though they may be or hold images: 1 .npy")
    assert second.startswith("left out: 1 members that are links, devices or sparse files; `tar")


def test_keys_that_each_tar_counts_anew(root):
    write(root / "train-0.tar", samples(range(4)))
    shifted = [(f"{int(n[:4]) - 4:04d}{n[4:]}", body) for n, body in samples(range(4, 8))]
    write(root / "train-1.tar", shifted)
    source = sources.open_source(Data("folder", str(root)), "train")
    assert source.ids()[:5:4] == ["train-0/0000", "train-1/0000"]
    assert source[4]["image"][0, 0, 0] == 4


def test_copies_in_two_splits(root):
    write(root / "train-0.tar", samples(range(6)))
    write(root / "test-0.tar", samples([5, 16, 17]))
    with pytest.raises(UserError, match=r"1 of 3 images of test are in train too, byte for byte"):
        sources.open_sources(Data("folder", str(root)))
    opened = sources.open_sources(Data("folder", str(root), allow_duplicates=True))
    assert any("byte for byte" in text for text in sources.warnings(opened))


def test_groups_by_their_keys(root):
    members = [m for i in range(12) for m in samples([i], prefix=f"p{i // 3}_")]
    write(root / "a.tar", members)
    data = Data("folder", str(root), group_pattern="(p[0-9]+)_")
    opened = sources.open_sources(data)
    names = {part: set(s.group_names().tolist()) for part, s in opened.items()}
    assert not names["train"] & names["test"] and names["train"] | names["test"] == {
        "p0", "p1", "p2", "p3",
    }  # fmt: skip
    with pytest.raises(UserError, match=r"^data.group_pattern: 'q' finds nothing in 12 of 12"):
        sources.open_sources(Data("folder", str(root), group_pattern="q"))


def test_a_pack_of_tars_stands_for_them(root, tmp_path):
    write(root / "train-0.tar", samples(range(6)))
    write(root / "test-0.tar", samples([15, 16, 17]))
    opened = sources.open_sources(Data("folder", str(root)))
    pack.write(opened, tmp_path / "pack")
    packed = sources.open_sources(Data("folder", str(tmp_path / "pack")))
    for part, source in opened.items():
        assert sources.identity(packed[part]) == sources.identity(source)
        for row in range(len(source)):
            ours, theirs = packed[part][row], source[row]
            np.testing.assert_array_equal(ours.pop("image"), theirs.pop("image"))
            assert ours == theirs


def test_compressed_tars_are_refused(root):
    root.mkdir()
    with tarfile.open(root / "train-0.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
    for name in ("folder", "webdataset"):
        with pytest.raises(UserError, match="has compressed tars, in which images cannot be read"):
            sources.open_sources(Data(name, str(root)))
    (root / "train-0.tar.gz").rename(root / "train-0.tar")
    with pytest.raises(UserError, match=r"train-0.tar is compressed, so images cannot be read one"):
        sources.open_sources(Data("folder", str(root)))


def test_no_tars(root):
    root.mkdir()
    with pytest.raises(UserError, match=r"^data.data_dir: .*shards has no .tar; expected FOLDER"):
        sources.open_sources(Data("webdataset", str(root)))
    with pytest.raises(UserError, match=r"^data.data_dir: expected a path"):
        sources.open_sources(Data("webdataset"))
