import sys

import numpy as np
import pytest
from PIL import Image

from tl.data.images import Images
from tl.errors import UserError
from tl.weights.spec import Preprocessing

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def test_paths_pillow_images_and_arrays_are_the_same_pixels(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    source = Images([path, str(path), Image.fromarray(PIXELS), PIXELS])
    for example in source.examples(range(4)):
        np.testing.assert_array_equal(example["image"], PIXELS)
        assert example["label"] == 0
    assert [source[row]["id"] for row in range(4)] == [str(path), str(path), "2", "3"]
    assert source.id_bytes == len(str(path))
    assert source.labels().tolist() == [0, 0, 0, 0]


def test_grey_and_transparent_images():
    grey = PIXELS[:, :, 0]
    (from_array, from_pillow, on_white) = Images(
        [grey, Image.fromarray(grey), Image.new("RGBA", (1, 1), (10, 20, 30, 0))]
    ).examples(range(3))
    np.testing.assert_array_equal(from_array["image"], np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(from_pillow["image"], from_array["image"])
    assert on_white["image"].tolist() == [[[255, 255, 255]]]


def test_orientation_of_a_pillow_image():
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = 6  # lies on its right side
    assert Images([image])[0]["image"].shape == (4, 2, 3)


def test_an_undecodable_image_is_an_error_or_a_row(tmp_path):
    broken, absent = tmp_path / "b.jpg", tmp_path / "absent.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(UserError, match=f"the image {broken} cannot be used: no image of"):
        Images([broken])[0]
    source = Images([PIXELS, broken, absent], skip_corrupt=True)
    assert [example["label"] for example in source.examples(range(3))] == [0, -1, -1]
    assert source.errors[1].startswith("no image of a type that is read: JPEG, ")
    assert source.errors[2] == "No such file or directory"


def test_a_pillow_image_that_cannot_be_decoded_is_an_error_or_a_row(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    half, closed = Image.open(tmp_path / "half.png"), Image.open(tmp_path / "a.png")
    closed.close()
    bad = [half, closed, Image.new("RGB", (0, 4)), Image.new("F", (2, 2)), "zero\0byte.png"]
    reasons = (
        "OSError: image file is truncated",
        "ValueError: Operation on closed image",
        "it has no pixels: 0 x 4",
        "its pixels are floating-point",
        # Of which path from Python 3.13 on.
        "embedded null byte" if sys.version_info < (3, 13) else "stat: embedded null character",
    )
    source = Images(bad, skip_corrupt=True)
    assert [example["label"] for example in source.examples(range(5))] == [-1] * 5
    for row, reason in enumerate(reasons):
        assert source.errors[row].startswith(reason)
        with pytest.raises(UserError, match="cannot be used: " + reason):
            Images(bad)[row]
    half.close()


@pytest.mark.parametrize(
    "image", [PIXELS.astype(np.float32), PIXELS[None], np.zeros((0, 4, 3), np.uint8)]
)
def test_arrays_that_are_no_images(image):
    with pytest.raises(UserError, match="expected an image as a path, a Pillow image or an array"):
        Images([image], skip_corrupt=True)[0]


def test_one_shape_for_all():
    with pytest.raises(UserError, match=r"expected an image of shape \(8, 8, 3\), got \(2, 4, 3\)"):
        Images([PIXELS], image_shape=(8, 8, 3))[0]


def test_drafted_files_come_smaller_and_images_in_memory_do_not(tmp_path):
    picture = Image.new("RGB", (64, 48), (10, 20, 30))
    picture.save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as opened:
        source = Images([tmp_path / "a.jpg", opened, np.asarray(picture), "no"], skip_corrupt=True)
        drafted = source.drafted(Preprocessing(size=6, geometry="whole", draft=True))
        shapes = [drafted[row]["image"].shape[:2] for row in range(4)]
    assert shapes == [(12, 16), (48, 64), (48, 64), (1, 1)]
    assert source.errors == {3: "No such file or directory"}
    assert source[0]["image"].shape == (48, 64, 3)
