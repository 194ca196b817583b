import importlib.util
import io
import os

import pytest
from PIL import Image

from tl.data import kinds, transforms


def encoded(kind):
    data = io.BytesIO()
    Image.new("RGB", (6, 5), (200, 40, 40)).save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "PPM"])
def test_formats_are_known_by_their_first_bytes_and_decoded(tmp_path, kind):
    path = tmp_path / "IMG_0001"
    path.write_bytes(encoded(kind))
    assert kinds.is_image(str(path))
    pixel = transforms.decode(path.read_bytes())[0, 0].astype(int)
    assert abs(pixel - [200, 40, 40]).max() < 12


@pytest.mark.parametrize(
    "data",
    [b"", b"# notes\n", b"BMW is a car, BM", b"II*\0\x10\0\0\0CR\2\0", b"%!PS-Adobe-3.0 EPSF"],
)
def test_other_files_without_an_ending_are_none(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    assert not kinds.is_image(str(tmp_path / "file"))


def test_an_ending_is_believed_without_opening_the_file(tmp_path):
    assert kinds.is_image(str(tmp_path / "absent.JFIF")) and kinds.is_image("a.b/c.pnm")
    assert not kinds.is_image(str(tmp_path / "absent.svg")) and not kinds.is_image("x.txt")
    assert kinds.is_image(str(tmp_path / "absent"))  # reading it tells why it cannot be


@pytest.mark.parametrize("kind", ["EPS", "ICO", "TGA", "PCX"])
def test_no_other_format_is_decoded_whatever_its_name(kind, monkeypatch):
    def started(*args, **kwargs):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.check_call", started)
    with pytest.raises(transforms.UndecodableImage, match="of a type that is read: JPEG, PNG, "):
        transforms.decode(encoded(kind))


def test_heic_is_read_with_its_package_alone(monkeypatch):
    heic = b"\0\0\0\x18ftypheic\0\0\0\0"
    there = importlib.util.find_spec("pillow_heif") is not None
    assert kinds.is_image("a.heic") is there and ("HEIF" in kinds.formats()) is there
    assert bool(kinds._FIRST_BYTES_HEIC.match(heic)) and ".heic" in kinds.PERHAPS_IMAGES
    monkeypatch.setattr(kinds, "reads_heic", lambda: True)
    assert kinds.is_image("a.HEIC")


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("I;16", 0x8040, [0x80] * 3),
        ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
        ("RGBA", (0, 0, 0, 0), [255] * 3),
        ("L", 7, [7] * 3),
        ("1", 1, [255] * 3),
    ],
)
def test_tiffs_of_every_depth(mode, value, expected):
    data = io.BytesIO()
    Image.new(mode, (3, 2), value).save(data, "TIFF")
    assert transforms.decode(data.getvalue())[0, 0].tolist() == expected


def test_the_first_page_of_a_tiff_counts():
    data = io.BytesIO()
    pages = [Image.new("L", (3, 2), value) for value in (9, 99)]
    pages[0].save(data, "TIFF", save_all=True, append_images=pages[1:])
    assert transforms.decode(data.getvalue())[0, 0, 0] == 9


def test_floating_point_pixels_are_not_guessed():
    data = io.BytesIO()
    Image.new("F", (3, 2), 0.5).save(data, "TIFF")
    with pytest.raises(transforms.UndecodableImage, match="floating-point numbers; convert them"):
        transforms.decode(data.getvalue())


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="not a regular file"):
        kinds.read_bytes(tmp_path / "pipe.jpg")
    (tmp_path / "a.jpg").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a.jpg")
    assert kinds.read_bytes(tmp_path / "link") == b"abc"


def test_an_ending_is_what_the_standard_library_says():
    names = (
        "a.JPG",
        "a",
        "a.",
        ".a",
        "..a",
        "...a.b",
        "a.b/c",
        "a/.b",
        "a/..b.C",
        "",
        "/",
        "a.b.C",
    )
    for name in names:
        assert kinds.ending(name) == os.path.splitext(name)[1].lower(), name
