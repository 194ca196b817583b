import numpy as np
import pytest
from PIL import Image

from experiments.benchmark.synthetic import NoiseSource
from tl.data import sources
from tl.data.digits import Digits
from tl.data.folder import open_folder
from tl.data.images import Images
from tl.data.sources import Data
from tl.data.tables import Columns
from tl.errors import UserError
from tl.weights.spec import Preprocessing


def test_sources_of_every_kind_keep_to_the_protocol(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (2, 3)).save(tmp_path / name / "a.png")
    for source in (Digits("test"), open_folder(str(tmp_path), ""), NoiseSource(5, 8)):
        assert isinstance(source, sources.Source)
        assert source.labels().dtype == np.int32 and len(source.labels()) == len(source)
        example = source[len(source) - 1]
        assert example["image"].dtype == np.uint8 and example["image"].shape[2] == 3
        assert example["label"] == source.labels()[-1] and isinstance(example["label"], int)
        assert len(example["id"].encode()) <= source.id_bytes
    assert not isinstance(np.zeros(3), sources.Source)


def test_only_large_images_that_are_decoded_are_drafted(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    drafting = Preprocessing(size=6, draft=True)
    files = Images([tmp_path / "a.jpg"])
    assert sources.drafted(files, drafting)[0]["image"].shape == (12, 16, 3)
    for p in (None, Preprocessing(size=6)):
        assert sources.drafted(files, p) is files
    small, noise = Images([], image_shape=(48, 64, 3)), NoiseSource(3, 70)
    assert sources.drafted(small, drafting) is small  # they must come in their own shape
    assert sources.drafted(noise, drafting) is noise  # they are not encoded


def test_val_is_a_share_or_a_split():
    share, split = Data("digits", val="0.25"), Data("digits", val="train[80%:]")
    assert (share.val_fraction, share.val_split) == (0.25, None)
    assert (split.val_fraction, split.val_split) == (None, "train[80%:]")
    assert set(sources.open_sources(share)) == {"train", "test"}
    with pytest.raises(UserError, match=r"^data.val: expected a share of train between 0 and 1"):
        Data("digits", val="1.5")


def test_val_may_be_folds_of_train(tmp_path, caplog):
    data = Data("digits", val="5fold")
    assert (data.folds, data.val_fraction, data.val_split) == (5, None, None)
    assert Data("digits").folds is None
    assert set(sources.open_sources(data)) == {"train", "test"}
    with pytest.raises(UserError, match=r"^data.val: expected 2fold or more, got '1fold'"):
        Data("digits", val="1fold")
    for value, split in enumerate(("train", "val", "test")):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            colour = (value, len(name), ord(name[0]))
            Image.new("RGB", (2, 3), colour).save(tmp_path / split / name / "a.png")
    with caplog.at_level("INFO"):
        opened = sources.open_sources(Data("folder", str(tmp_path), val="2fold"))
    assert set(opened) == {"train", "test"}
    assert "the split 'val' is not used, for `data.val` is 2fold" in caplog.text
    assert set(sources.open_sources(Data("folder", str(tmp_path)))) == {"train", "val", "test"}


@pytest.mark.parametrize("fields", [{"val": "test"}, {"train": "all"}, {"test": "train"}])
def test_splits_that_share_images(fields):
    with pytest.raises(UserError, match=r"share \d+ images of digits; give splits that do not"):
        sources.open_sources(Data("digits", **fields))


def test_a_share_of_train_or_the_name_of_a_split():
    assert sources.carved_fraction(0.25) == sources.carved_fraction("0.25") == 0.25
    assert sources.carved_fraction("train[80%:]") is None
    for value in (0.0, 1.0, "2", ""):
        with pytest.raises(UserError, match="between 0 and 1"):
            sources.carved_fraction(value)


def test_the_path_tells_what_a_folder_is(tmp_path):
    for value, name in enumerate("abcd"):
        Image.new("RGB", (2, 3), (value, 0, 0)).save(tmp_path / f"{name}.png")
    table = tmp_path / "labels.csv"
    table.write_text("path,label,set\na.png,x,fit\nb.png,y,fit\nc.png,x,t\nd.png,y,t\n")
    for name in ("folder", "manifest"):
        data = Data(name, data_dir=str(table), train="fit", test="t")
        opened = sources.open_sources(data)
        assert [example["id"] for example in map(opened["test"].__getitem__, (0, 1))] == [
            "c.png", "d.png",
        ]  # fmt: skip
        one = sources.open_source(data, "t", field="data.test")
        assert one.version == opened["test"].version
        with pytest.raises(UserError, match=r"^data\.test: .*labels\.csv has no split 'T'; there"):
            sources.open_source(data, "T", field="data.test")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(
        UserError, match=r"^data\.data_dir: .*notes\.txt is no folder; expected one,"
    ):
        sources.open_sources(Data("folder", data_dir=str(tmp_path / "notes.txt")))
    with pytest.raises(UserError, match=r"absent\.csv cannot be read as CSV .*No such file"):
        sources.open_sources(Data("folder", data_dir=str(tmp_path / "absent.csv")))
    with pytest.raises(UserError, match=r"^data\.data_dir: expected a path"):
        sources.open_sources(Data("manifest"))


def test_columns_of_a_table():
    fields = {"image_column": "a", "label_column": "b", "split_column": "c", "group_column": "d"}
    assert Data("manifest", **fields).columns == Columns("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("name", "field", "advice"),
    [
        ("digits", "group_pattern", "leave it out"),
        ("digits", "group_column", "leave it out"),
        ("cifar10", "group_column", "leave it out"),
        ("folder", "group_column", "give `data.group_pattern`"),
        ("arrays", "group_pattern", "give `data.group_column`"),
        ("hf:owner/name", "group_pattern", "give `data.group_column`"),
    ],
)
def test_groups_that_such_data_cannot_have_are_refused(tmp_path, name, field, advice):
    data = Data(name, data_dir=str(tmp_path), **{field: "patient"})
    text = rf"^data\.{field}: such data have no groups by it; {advice}$"
    with pytest.raises(UserError, match=text):
        sources.open_sources(data)
    with pytest.raises(UserError, match=text):
        sources.open_source(data, "test", field="data.test")


def test_groups_in_two_splits_are_refused(tmp_path):
    for value, name in enumerate("abcd"):
        Image.new("RGB", (2, 3), (value, 0, 0)).save(tmp_path / f"{name}.png")
    (tmp_path / "t.csv").write_text(
        "path,label,split,patient\na.png,x,train,p1\nb.png,y,train,p2\nc.png,x,test,p1\n"
    )
    with pytest.raises(UserError, match=r"^1 group has images in train and in test: p1; put"):
        sources.open_sources(Data("folder", data_dir=str(tmp_path / "t.csv")))
