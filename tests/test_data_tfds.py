import io
import os
import shutil
import sys
import threading
import time

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from tests.test_data_sources import config
from tl.data import loader, sources, tfds_prepare
from tl.errors import UserError

NAMES = ["circle", "square"]
NUM_TRAIN = 12


class TinyShapes(tfds.core.GeneratorBasedBuilder):
    """Grey 9 x 7 PNGs: image i is all i * 10; label i % 2."""

    VERSION = tfds.core.Version("1.2.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = None
    with_ids = True
    broken = ()

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(9, 7, 1)),
            "label": tfds.features.ClassLabel(names=NAMES),
        }
        if self.with_ids:
            features["id"] = tfds.features.Text()
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(NUM_TRAIN),
            "test": self._generate_examples(5),
        }

    def _generate_examples(self, count):
        for i in range(count):
            buffer = io.BytesIO()
            Image.new("L", (7, 9), i * 10).save(buffer, "PNG")
            data = buffer.getvalue()[:40] if i in self.broken else buffer.getvalue()
            example = {"image": io.BytesIO(data), "label": i % 2}
            yield i, example | ({"id": f"shape-{i}"} if self.with_ids else {})


class NoIds(TinyShapes):
    """The same without ids, and with two broken images."""

    with_ids = False
    broken = (3, 4)


class NoClasses(TinyShapes):
    """Images whose labels are no classes."""

    def _info(self):
        features = {"image": tfds.features.Image(), "caption": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "caption"),
        )

    def _generate_examples(self, count):
        for i, example in super()._generate_examples(count):
            yield i, {"image": example["image"], "caption": "a shape"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    for builder in (TinyShapes, NoIds, NoClasses):
        builder(data_dir=directory).download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
    return directory


def of(data_dir, name="tiny_shapes", **fields):
    return sources.open_sources(config(name=name, data_dir=str(data_dir), **fields))


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
        with pytest.raises(UserError, match=r"'valid' of tiny_shapes/1.2.0.*\n.*'train': 12"):
            of(data_dir, val="valid")
        for split in ("train[:x]", "train[:0]"):
            with pytest.raises(UserError, match=r"cannot be opened"):
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
                r"train \('train'\) and val \('train\[75%:\]'\) share 3 images",
            ),
            ({"train": "train+test[:2]"}, "and test .* share 2 images of tiny_shapes; give splits"),
            ({"train": "all"}, "share 5 images"),
            ({"val": "test"}, "test .* and val .* share 5 images"),
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
        with pytest.raises(UserError, match=r"(?s)'caption': Text.*supervised.*'caption'\)"):
            of(data_dir, name="no_classes")

    def test_files_without_random_access(self, data_dir, tmp_path):
        shutil.copytree(data_dir / "tiny_shapes", tmp_path / "tiny_shapes")
        info = tmp_path / "tiny_shapes/1.2.0/dataset_info.json"
        info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
        with pytest.raises(UserError, match=r"(?s)holds tfrecord files.*python -c .*OTHER_DIR"):
            of(tmp_path)

    def test_an_unknown_name(self, data_dir):
        with pytest.raises(UserError, match=r"no data set 'cifar1'; the nearest are .*'cifar10'"):
            of(data_dir, name="cifar1")
        with pytest.raises(UserError, match=r"no data set 'xyzzy'.*'digits', 'folder'"):
            of(data_dir, name="xyzzy")

    def test_no_data_set_can_have_this_name(self, data_dir):
        with pytest.raises(UserError, match=r"'my set/' cannot name a data set"):
            of(data_dir, name="my set/")
        with pytest.raises(UserError, match="is a community data set, which is not supported"):
            of(data_dir, name="huggingface:mnist")

    def test_not_prepared_and_not_to_be_downloaded(self, data_dir):
        text = (
            r"(?s)'cifar10' is not prepared in .*no_ids/1.2.0, tiny_shapes/1.2.0"
            r".*`data.download` is off"
            r".*python -c .*tfds.builder\('cifar10'.*array_record.*`data.data_dir=DIR`$"
        )
        with pytest.raises(UserError, match=text):
            of(data_dir, name="cifar10")

    def test_a_version_that_is_not_there(self, data_dir):
        with pytest.raises(UserError, match=r"(?s)'cifar10:2.9.9' is not prepared.*2.9.9"):
            of(data_dir, name="cifar10:2.9.9", download=True)

    def test_a_directory_that_is_not_there(self, tmp_path):
        with pytest.raises(UserError, match="no such directory"):
            of(tmp_path / "absent", name="cifar10")

    def test_files_to_be_fetched_by_hand(self, tmp_path):
        with pytest.raises(UserError, match=r"(?s)by hand into .*/downloads/manual"):
            of(tmp_path, name="imagenet2012", download=True)


class TestNoNetwork:
    def test_a_refused_connection_is_answered_at_once(self, tmp_path, monkeypatch):
        def refuse(url, timeout):
            raise requests.ConnectionError

        monkeypatch.setattr(requests, "head", refuse)
        with pytest.raises(UserError, match=r"no answer from www.cs.toronto.edu"):
            of(tmp_path, name="cifar10", download=True)

    def test_a_network_that_swallows_everything_is_answered_in_time(self, monkeypatch):
        given_up = threading.Event()

        def swallow(url, timeout):
            given_up.wait(60)
            raise requests.Timeout

        monkeypatch.setattr(requests, "head", swallow)
        start = time.monotonic()
        assert not tfds_prepare.any_answers(["https://a.example", "https://b.example"], seconds=0.3)
        assert time.monotonic() - start < 2
        given_up.set()

    def test_one_host_that_answers_is_enough(self, monkeypatch):
        def head(url, timeout):
            if "down" in url:
                raise requests.Timeout
            response = requests.Response()
            response.status_code = 503 if "proxy" in url else 403
            return response

        monkeypatch.setattr(requests, "head", head)
        assert tfds_prepare.any_answers(["https://down.example", "https://up.example"])
        assert not tfds_prepare.any_answers(["https://down.example", "https://proxy.example"])


class TestPreparing:
    @pytest.fixture
    def online(self, monkeypatch):
        monkeypatch.setattr(tfds_prepare, "any_answers", lambda urls: True)

    def test_a_missing_set_is_prepared(self, tmp_path, online):
        assert len(of(tmp_path, download=True)["train"]) == NUM_TRAIN
        assert tfds_prepare.prepared(epath.Path(tmp_path)) == ["tiny_shapes/1.2.0"]

    def test_a_set_that_needs_tensorflow_says_so_without_the_pixels(
        self, tmp_path, online, monkeypatch
    ):
        def arrays(self, count):  # which only TensorFlow encodes
            yield 0, {"image": np.zeros((9, 7, 1), np.uint8), "label": 0, "id": "0"}

        monkeypatch.setitem(sys.modules, "tensorflow", None)
        monkeypatch.setattr(TinyShapes, "_generate_examples", arrays)
        with pytest.raises(UserError, match=r"(?s)is not here: .*tensorflow.*python -c") as caught:
            of(tmp_path, download=True)
        assert len(str(caught.value)) < 700

    @pytest.mark.parametrize(
        ("failure", "text"),
        [
            (ModuleNotFoundError("No module named 'tensorflow'"), "pip install tensorflow"),
            (OSError("disk full"), "failed with OSError: disk full"),
        ],
    )
    def test_what_goes_wrong_comes_with_the_command(
        self, tmp_path, online, monkeypatch, failure, text
    ):
        def fail(*args, **kwargs):
            raise failure

        monkeypatch.setattr(TinyShapes, "_split_generators", fail)
        with pytest.raises(UserError, match=rf"(?s){text}.*python -c") as caught:
            of(tmp_path, download=True)
        assert caught.value.__cause__ is failure


@pytest.mark.skipif("TL_DATA_DIR" not in os.environ, reason="TL_DATA_DIR is not set")
def test_cifar10():
    opened = of(os.environ["TL_DATA_DIR"], name="cifar10", train="train[:500]")
    assert (len(opened["train"]), len(opened["test"])) == (500, 10_000)
    assert opened["train"].image_shape == (32, 32, 3) and opened["train"].version == "3.0.2"
    assert np.bincount(opened["test"].labels()).tolist() == [1000] * 10
    example = opened["train"][5]
    assert opened["train"].classes[example["label"]] in example["id"]  # 'train_horse_1707'
