"""The contact sheet of the first batch, as it is drawn and as it is written."""

import re

import numpy as np
import pytest
from PIL import Image

from tests.toy import PLAIN, NoiseSource, Source
from tl.data.augment import Augmentation
from tl.report import contact_sheet as sheets
from tl.runs import preview
from tl.train import inputs
from tl.train.mixing import Mixing

CLASSES = ("ant", "bee", "cat")


def fed(source, augmentation=None, threads=2):
    parts = {"train": (source, np.arange(len(source)))}
    return inputs.image_inputs(parts, augmentation or Augmentation(), PLAIN, threads)


@pytest.fixture
def drawn(monkeypatch):
    """What is handed to the contact sheet in place of a file."""
    calls = []
    monkeypatch.setattr(
        sheets, "contact_sheet", lambda images, captions, *_: calls.append((images, captions))
    )
    return calls


@pytest.mark.parametrize("mixing", [Mixing(), Mixing(mixup=0.5), Mixing(0.5, 1.0)])
def test_a_picture_is_written(tmp_path, mixing):
    path = tmp_path / "augmented.png"
    preview.draw(fed(NoiseSource(9), Augmentation(flip=0.5)), mixing, CLASSES, 3, 0, path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    # Three images side by side, on white.
    assert pixels.shape[1] > 2 * pixels.shape[0] > 500
    assert (pixels[0] == 255).all() and pixels.std() > 30


def test_unmixed_it_is_the_first_batch_of_the_run(drawn, tmp_path):
    source = fed(NoiseSource(9), Augmentation(flip=0.5))
    preview.draw(source, Mixing(), CLASSES, 8, 5, tmp_path)
    stream = source.stream(8, 5)
    batch, _ = next(stream)
    stream.close()
    (images, captions) = drawn[0]
    np.testing.assert_array_equal(images, batch["image"])
    assert images.dtype == np.uint8
    assert captions == [CLASSES[label] for label in batch["label"]]


def test_mixed_captions_say_whose_share_it_is(drawn, tmp_path):
    # Image i is filled with i, its label is i modulo 3: the image tells the share, too.
    source = fed(Source(90))
    preview.draw(source, Mixing(mixup=1.0), CLASSES, 6, 1, tmp_path)
    preview.draw(source, Mixing(), CLASSES, 6, 1, tmp_path)
    (mixed, captions), (plain, names) = drawn
    shares = [
        {name: float(share or 1) for share, name in re.findall(r"(?:([\d.]+) )?([a-z]+)", caption)}
        for caption in captions
    ]
    assert any(len(share) == 2 for share in shares)
    assert {round(sum(share.values()), 2) for share in shares} == {1.0}
    pairs = [(i, 5 - i) for i in range(6) if names[i] != names[5 - i]]
    for i, partner in pairs:
        own = shares[i][names[i]]
        expected = own * plain[i] + (1 - own) * plain[partner]
        assert np.abs(mixed[i] - expected).max() <= 1.5


def test_only_the_first_images_and_no_name_of_a_left_out_one(drawn, tmp_path):
    class AllCorrupt(Source):
        def __getitem__(self, row):
            return {**super().__getitem__(row), "label": -1}

    preview.draw(fed(AllCorrupt(50), threads=0), Mixing(), CLASSES, 48, 0, tmp_path)
    images, captions = drawn[0]
    assert len(images) == preview.SHOWN == 40
    assert captions == [""] * 40
