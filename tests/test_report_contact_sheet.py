import numpy as np
import pytest
from PIL import Image

from tests import labels
from tl.report.contact_sheet import contact_sheet

COLOURS = [(200, 0, 0), (0, 160, 0), (0, 0, 220), (120, 120, 0), (0, 120, 120)]


def sheet(path, count=5, captions=None, title="title", shape=(8, 8), **options):
    images = np.stack([np.full((*shape, 3), colour, np.uint8) for colour in COLOURS[:count]])
    contact_sheet(images, captions or [f"image {i}" for i in range(count)], title, path, **options)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")), image.info


def places(pixels):
    """Returns top, left, height and width of each colour's rectangle."""
    found = []
    for colour in COLOURS:
        rows, columns = np.nonzero((pixels == colour).all(axis=2))
        if rows.size:
            found.append((rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1))
    return np.array(found)


def test_images_stand_in_rows_in_their_order(tmp_path):
    pixels, info = sheet(tmp_path / "a.png", columns=2)
    assert "Software" not in info
    top, left, height, width = places(pixels).T
    np.testing.assert_allclose(height, 240, atol=2)  # 1.6 inches of 150 dots
    np.testing.assert_allclose(width, 240, atol=2)
    assert top[0] == top[1] < top[2] == top[3] < top[4]
    assert left[0] == left[2] == left[4] < left[1] == left[3]
    assert left[1] > left[0] + width[0]
    assert top[2] > top[0] + height[0]


@pytest.mark.parametrize(("count", "columns"), [(1, 8), (5, 8), (5, 1)])
def test_a_sheet_is_as_wide_as_its_images(tmp_path, count, columns):
    pixels, _ = sheet(tmp_path / "a.png", count, columns=columns)
    assert len(places(pixels)) == count
    across = min(count, columns)
    assert pixels.shape[1] == pytest.approx(150 * (across * 1.75 + 0.15), abs=1)


def test_images_keep_their_aspect(tmp_path):
    *_, height, width = places(sheet(tmp_path / "a.png", 1, shape=(10, 40))[0])[0]
    assert width / height == pytest.approx(4, rel=0.05)


def test_captions_lie_below_their_images_and_make_room(tmp_path):
    short, _ = sheet(tmp_path / "a.png", columns=1)
    top, left, height, width = places(short).T
    between = short[top[0] + height[0] : top[1], left[0] : left[0] + width[0]]
    assert (between < 100).any()
    captions = ["a caption of more words than go into one line"] + ["short"] * 4
    long, _ = sheet(tmp_path / "b.png", captions=captions, columns=1)
    moved = places(long)[:, 0] - top
    assert moved[0] == pytest.approx(0, abs=1)
    np.testing.assert_allclose(moved[1:], 21, atol=2)  # one more line, 0.14 inches


def test_the_title_is_broken_where_the_sheet_is_narrow(tmp_path):
    pixels, _ = sheet(tmp_path / "a.png", 1, title="a title wider than a single image is")
    top = places(pixels)[0, 0]
    assert (pixels[:top] < 100).any()
    assert (pixels[:top, -10:] == 255).all()


@pytest.mark.parametrize("name", [name for name in labels.NAMES if len(name) > 20])
def test_long_words_stay_below_their_image(tmp_path, name):
    pixels, _ = sheet(tmp_path / "a.png", 2, captions=[name, "short"], title=f"{name} {name}")
    (top, left, height, width), (_, other, _, _) = places(pixels)
    ink = (pixels < 200).any(axis=2)
    assert not ink[:, : left - 3].any()
    assert not ink[top + height :, left + width + 3 : other].any()
    assert not ink[:, -10:].any()
    assert ink[:top].any() and ink[top + height :, left : left + width].any()


def test_dollars_and_underscores_are_no_formula(tmp_path):
    pixels, _ = sheet(tmp_path / "a.png", 2, captions=["$x_$", r"\frac{$"], title="$_{$")
    assert len(places(pixels)) == 2


def test_the_same_images_give_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        sheet(tmp_path / name, 2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(("images", "captions"), [(0, 0), (2, 1)])
def test_a_caption_for_each_image(tmp_path, images, captions):
    message = f"a caption for each; got {images} images and {captions} captions"
    with pytest.raises(ValueError, match=message):
        contact_sheet(np.zeros((images, 4, 4, 3), np.uint8), ["a"] * captions, "", tmp_path / "a")
