import io

import numpy as np
import pytest
from PIL import Image

from tl.data.encoded import EncodedSource
from tl.errors import UserError
from tl.weights.spec import Preprocessing


def png(value):
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


class Listed(EncodedSource):
    """Two images, and bytes that are none in between."""

    rows = (png(10), b"no image", png(30))

    def __init__(self, skip_corrupt, image_shape=None):
        super().__init__(
            name="listed", version="1", split="train", classes=["a", "b"], image_shape=image_shape,
            id_bytes=4, skip_corrupt=skip_corrupt,
        )  # fmt: skip

    def __len__(self):
        return len(self.rows)

    def labels(self):
        return np.array([0, 1, 1], np.int32)

    def _read(self, rows):
        for row in rows:
            yield self.rows[row], int(self.labels()[row]), f"id-{row}"


def test_examples_are_decoded_in_the_order_asked():
    source = Listed(skip_corrupt=False)
    last, first = source.examples([2, 0])
    assert (last["image"] == 30).all() and last["image"].shape == (2, 3, 3)
    assert (last["label"], last["id"]) == (1, "id-2")
    assert (first["image"] == 10).all() and (first["label"], first["id"]) == (0, "id-0")
    assert (source[2]["image"] == last["image"]).all()
    assert source.classes == ("a", "b")


def test_an_image_that_does_not_decode_is_named():
    message = r"^listed: the image id-1 cannot be decoded \(no image of a type that .*\); rep"
    with pytest.raises(UserError, match=message):
        Listed(skip_corrupt=False)[1]


@pytest.mark.parametrize(("shape", "left"), [(None, (1, 1, 3)), ((2, 3, 3), (2, 3, 3))])
def test_or_it_is_left_out(shape, left, caplog):
    _, example, after = Listed(skip_corrupt=True, image_shape=shape).examples([0, 1, 2])
    assert (example["label"], example["id"]) == (-1, "id-1")
    assert example["image"].shape == left and not example["image"].any()
    assert after["label"] == 1
    assert caplog.text.count("listed: left out id-1, which cannot be decoded") == 1


class Photograph(Listed):
    """One large JPEG, three times."""

    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (10, 20, 30)).save(buffer, "JPEG")
    rows = (buffer.getvalue(),) * 3


def test_a_drafted_source_is_the_same_with_smaller_images():
    whole = Photograph(skip_corrupt=False)
    p = Preprocessing(size=6, geometry="whole", draft=True)
    drafted = whole.drafted(p)
    assert whole[1]["image"].shape == (48, 64, 3)
    assert drafted[1]["image"].shape == (12, 16, 3)
    assert (drafted[1]["id"], drafted.version, len(drafted)) == ("id-1", whole.version, 3)
    assert whole[1]["image"].shape == (48, 64, 3)
