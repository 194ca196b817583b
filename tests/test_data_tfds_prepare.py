import sys
import threading
import time

import numpy as np
import pytest
import requests
from etils import epath

from tests import shapes
from tests.shapes import NUM_TRAIN, TinyShapes, of
from tl.data import tfds_prepare
from tl.errors import UserError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return shapes.prepare(tmp_path_factory.mktemp("tfds"))


class TestMistakes:
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
