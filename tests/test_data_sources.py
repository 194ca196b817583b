import numpy as np
import pytest
from PIL import Image

from experiments.benchmark.synthetic import NoiseSource
from tl.data import sources
from tl.data.digits import Digits
from tl.data.folder import open_folder
from tl.data.sources import Data
from tl.errors import UserError


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


def test_val_is_a_share_or_a_split():
    share, split = Data("digits", val="0.25"), Data("digits", val="train[80%:]")
    assert (share.val_fraction, share.val_split) == (0.25, None)
    assert (split.val_fraction, split.val_split) == (None, "train[80%:]")
    assert set(sources.open_sources(share)) == {"train", "test"}
    with pytest.raises(UserError, match=r"^data.val: expected a share of train between 0 and 1"):
        Data("digits", val="1.5")


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
