import numpy as np
import pytest

from tl.data import sources
from tl.data.sources import Data
from tl.errors import UserError

DIGITS = Data("digits")


def test_the_splits_have_their_declared_counts():
    opened = sources.open_sources(DIGITS)
    assert {key: len(source) for key, source in opened.items()} == {"train": 1000, "test": 797}
    assert np.bincount(opened["train"].labels()).tolist() == [100] * 10


def test_the_splits_share_no_image_and_miss_none():
    whole = sources.open_source(DIGITS, "all")
    opened = sources.open_sources(DIGITS)
    ids = [{source[row]["id"] for row in range(len(source))} for source in opened.values()]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == {f"digits/{row:04d}" for row in range(1797)}
    for source in opened.values():
        for row in (0, len(source) - 1):
            example = source[row]
            original = whole[int(example["id"][-4:])]
            assert example["label"] == original["label"] == source.labels()[row]
            assert np.array_equal(example["image"], original["image"])


def test_the_runs_seed_does_not_move_an_image():
    ids = [sources.open_sources(Data("digits", seed=seed))["test"][0]["id"] for seed in (0, 1)]
    assert ids[0] == ids[1]


def test_pixels_by_hand():
    # The first digit's first rows are 0 0 5 13 9 1 0 0 and 0 0 13 15 10 15 5 0, of 16.
    image = sources.open_source(DIGITS, "all")[0]["image"]
    assert image.shape == (8, 8, 3) and image.dtype == np.uint8
    assert image[0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert image[1, :, 2].tolist() == [0, 0, 207, 239, 159, 239, 80, 0]


def test_what_it_says_of_itself():
    source = sources.open_source(DIGITS, "test")
    assert (source.name, source.split, source.image_shape) == ("digits", "test", (8, 8, 3))
    assert source.classes == tuple("0123456789")
    assert max(len(source[row]["id"].encode()) for row in range(9)) == source.id_bytes


def test_another_split():
    with pytest.raises(UserError, match=r"^digits has no split 'trian'.*'train'"):
        sources.open_source(DIGITS, "trian")
    with pytest.raises(UserError, match=r"^data.val: digits has no split 'validation'"):
        sources.open_sources(Data("digits", val="validation"))
