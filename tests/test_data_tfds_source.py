import os
import shutil

import numpy as np
import pytest

from tests import shapes
from tests.shapes import NAMES, NUM_TRAIN, of
from tl.data import loader
from tl.errors import UserError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return shapes.prepare(tmp_path_factory.mktemp("tfds"))


def test_splits_labels_ids_and_pixels(data_dir):
    opened = of(data_dir)
    train = opened["train"]
    assert (len(train), len(opened["test"])) == (NUM_TRAIN, 5)
    assert (train.name, train.version, train.split) == ("tiny_shapes", "1.2.0", "train")
    assert train.classes == tuple(NAMES) and train.image_shape == (9, 7, 3)
    examples = [train[row] for row in range(NUM_TRAIN)]
    assert {example["id"] for example in examples} == {f"shape-{i}" for i in range(NUM_TRAIN)}
    for example in examples:
        i = int(example["id"].removeprefix("shape-"))
        assert example["label"] == i % 2 and isinstance(example["label"], int)
        assert example["image"].shape == (9, 7, 3) and (example["image"] == i * 10).all()
        assert len(example["id"].encode()) <= train.id_bytes
    assert train.labels().tolist() == [example["label"] for example in examples]
    assert train.labels().dtype == np.int32


def test_split_strings(data_dir):
    whole = of(data_dir)["train"]
    opened = of(data_dir, train="train[:75%]", val="train[75%:]", test="test[:3]+test[4:]")
    assert [len(opened[key]) for key in ("train", "val", "test")] == [9, 3, 4]
    ids = [opened[key][row]["id"] for key in ("train", "val") for row in range(len(opened[key]))]
    assert ids == [whole[row]["id"] for row in range(NUM_TRAIN)]
    version = of(data_dir, name="tiny_shapes:1.2.0")["train"].version
    assert version == whole.version


def test_batches(data_dir):
    train = of(data_dir)["train"]
    batches = list(loader.batches(train, 5, shuffle_seed=0, threads=2))
    rows = np.concatenate([b["index"][b["mask"]] for b in batches])
    labels = np.concatenate([b["label"][b["mask"]] for b in batches])
    assert sorted(rows) == list(range(NUM_TRAIN))
    assert np.array_equal(labels, train.labels()[rows])
    assert batches[0]["image"].shape == (5, 9, 7, 3)


def test_without_ids_the_split_and_the_row_are_the_id(data_dir):
    test = of(data_dir, name="no_ids", test="test[3:]", skip_corrupt=True)["test"]
    assert [test[row]["id"] for row in range(2)] == ["test[3:]/0", "test[3:]/1"]
    assert len(test[1]["id"]) <= test.id_bytes


def test_corrupt_images(data_dir, caplog):
    with pytest.raises(UserError, match=r"no_ids: the image train/\d+ cannot .*skip_corrupt"):
        list(loader.batches(of(data_dir, name="no_ids")["train"], 4))
    train = of(data_dir, name="no_ids", skip_corrupt=True)["train"]
    (batch,) = loader.batches(train, NUM_TRAIN)
    assert (batch["label"] == -1).sum() == 2 and batch["mask"].all()
    assert not batch["image"][batch["label"] == -1].any()
    assert caplog.text.count("left out train/") == 2


class TestMistakes:
    def test_a_split_that_is_not_there(self, data_dir):
        with pytest.raises(
            UserError, match=r"^data.val: the split 'valid' of tiny_shapes/1.2.0.*\n.*'train': 12"
        ):
            of(data_dir, val="valid")
        for split in ("train[:x]", "train[:0]"):
            with pytest.raises(UserError, match=r"^data.train: .* cannot be opened"):
                of(data_dir, train=split)

    @pytest.mark.parametrize("split", ["train[:0]", "train[7:3]"])
    def test_an_empty_split(self, data_dir, split):
        with pytest.raises(UserError, match=r"cannot be opened: it is empty\nThere are these"):
            of(data_dir, train=split)

    @pytest.mark.parametrize(
        ("splits", "message"),
        [
            (
                {"val": "train[75%:]"},
                r"^`data.train` \('train'\) and `data.val` \('train\[75%:\]'\) share 3 images",
            ),
            (
                {"train": "train+test[:2]"},
                "and `data.test` .* share 2 images of tiny_shapes; give splits",
            ),
            ({"train": "all"}, "share 5 images"),
            ({"val": "test"}, "`data.test` .* and `data.val` .* share 5 images"),
        ],
    )
    def test_splits_that_share_images(self, data_dir, splits, message):
        with pytest.raises(UserError, match=message):
            of(data_dir, **splits)

    @pytest.mark.parametrize(
        ("splits", "message"),
        [
            (
                {"train": "train+train"},
                "^data.train: the parts that 'train.train' joins share 12 images",
            ),
            ({"test": "test[:2]+test[1:]"}, "^data.test: .* share 1 images; give parts that do no"),
        ],
    )
    def test_a_split_that_holds_an_image_twice(self, data_dir, splits, message):
        with pytest.raises(UserError, match=message):
            of(data_dir, **splits)

    def test_other_features_are_listed(self, data_dir):
        with pytest.raises(UserError, match=r"(?s)^data.name: .*'caption': Text.*'caption'\)"):
            of(data_dir, name="no_classes")

    def test_files_without_random_access(self, data_dir, tmp_path):
        shutil.copytree(data_dir / "tiny_shapes", tmp_path / "tiny_shapes")
        info = tmp_path / "tiny_shapes/1.2.0/dataset_info.json"
        info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
        with pytest.raises(UserError, match=r"(?s)holds tfrecord files.*python -c .*OTHER_DIR"):
            of(tmp_path)


@pytest.mark.skipif("TL_DATA_DIR" not in os.environ, reason="TL_DATA_DIR is not set")
def test_cifar10():
    opened = of(os.environ["TL_DATA_DIR"], name="cifar10", train="train[:500]")
    assert (len(opened["train"]), len(opened["test"])) == (500, 10_000)
    assert opened["train"].image_shape == (32, 32, 3) and opened["train"].version == "3.0.2"
    assert np.bincount(opened["test"].labels()).tolist() == [1000] * 10
    example = opened["train"][5]
    assert opened["train"].classes[example["label"]] in example["id"]  # 'train_horse_1707'
