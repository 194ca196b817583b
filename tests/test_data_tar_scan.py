"""What well-formed, foreign and damaged tars are answered with, before an image is read."""

import io
import json
import re
import tarfile

import numpy as np
import pytest

from tests.shards import member, png, write
from tl.data import tar_scan
from tl.data.tar_scan import Asked
from tl.errors import UserError

A = png(1)


@pytest.fixture
def scan(tmp_path):
    """Returns the index of a tar with some members."""

    def scanned(members, form=tarfile.PAX_FORMAT, **asked):
        return of_file(write(tmp_path / "a.tar", members, form), **asked)

    return scanned


def of_file(path, **asked):
    with path.open("rb") as file:
        return tar_scan.scan(file, path, Asked(**asked), (0, 0, 0))


def test_samples_with_their_places_and_labels(scan):
    index = scan([
        member("d", tarfile.DIRTYPE),
        ("./d/one.cls", " 7\n"),
        ("./d/one.png", A),
        ("./d/one.txt", "a caption"),
        ("d.x/two.JPEG", b"jpeg"),
        ("d.x/two.json", '{"a": 1, "label": 3}'),
        ("README", "no ending"),
        ("three.webp", b""),
    ])  # fmt: skip
    assert index.keys == ["d/one", "d.x/two", "three"]
    assert index.labels == ["7", "3", ""] and index.kind == tar_scan.NUMBER
    assert index.sizes.tolist() == [len(A), 4, 0]
    data = index.file.read_bytes()
    for offset, body in zip(index.offsets, (A, b"jpeg")):
        assert data[offset : offset + len(body)] == body
    assert str(index.left_out) == "1 without an ending, 1 .txt"
    assert index.examples == ["./d/one.txt", "README"] and index.digests is None
    assert index.offsets.dtype == index.sizes.dtype == np.int64


def test_no_image_is_read(tmp_path):
    path = write(tmp_path / "a.tar", [("a.png", bytes(1 << 20)), ("b.png", bytes(1 << 20))])
    count = 0

    class Counting(io.BufferedReader):
        def read(self, size=-1):
            nonlocal count
            data = super().read(size)
            count += len(data)
            return data

    with Counting(io.FileIO(path)) as file:
        assert len(tar_scan.scan(file, path, Asked(), (0, 0, 0)).keys) == 2
    assert count < 20_000


def test_hidden_files_links_and_devices_are_left_out(scan):
    index = scan([
        ("._a.png", b"of macOS"),
        ("a.png", A),
        ("a.cls", "1"),
        (".git/b.png", A),
        ("@eaDir/a.png", A),
        member("c.png", tarfile.SYMTYPE, linkname="a.png"),
        member("d.png", tarfile.LNKTYPE, linkname="a.png"),
        member("e.png", tarfile.CHRTYPE),
        member("f.png", tarfile.FIFOTYPE),
    ])  # fmt: skip
    assert index.keys == ["a"]
    assert (index.left_out.hidden, index.left_out.special) == (3, 4)


def test_a_sparse_file_is_left_out_for_its_holes_are_not_in_the_tar(scan):
    headers = {"GNU.sparse.map": "1024,4", "GNU.sparse.size": "1028"}
    index = scan([(member("a.png", pax_headers=headers), b"abcd"), ("b.png", A)])
    assert index.keys == ["b"] and index.left_out.special == 1


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_foreign_names(scan, form):
    long = "folder/" * 40 + "n" * 150
    names = [long, "o\u0308", "/absolute", "../up", "a/../../b", "x\udcff"]
    index = scan([item for n in names for item in ((f"{n}.cls", "1"), (f"{n}.png", A))], form)
    assert index.keys == [long, "\xf6", "absolute", "../up", "a/../../b", "x\\xff"]


def test_a_zero_byte_of_a_pax_header(scan):
    info = member("a", pax_headers={"path": "a\0b.png"})
    assert scan([info, ("c.png", A)]).keys == ["a\\0b", "c"]


def test_an_empty_tar_has_no_samples(scan):
    index = scan([])
    assert (index.keys, index.kind, len(index.sizes)) == ([], "", 0)


def test_samples_without_image_or_label(scan):
    index = scan([("a.cls", "1"), ("b.png", A), ("c.txt", "x"), ("d.json", '{"url": "u"}')])
    assert (index.keys, index.labels) == (["a", "b"], ["1", ""])
    assert index.sizes.tolist() == [-1, len(A)]
    assert index.fields == ["url"]


@pytest.mark.parametrize(
    ("values", "asked", "expected"),
    [
        ({"label": 3}, "", (tar_scan.NUMBER, "3")),
        ({"cls": -1}, "", (tar_scan.NUMBER, "-1")),
        ({"class": " cat "}, "", (tar_scan.TEXT, "cat")),
        ({"label": "3"}, "", (tar_scan.TEXT, "3")),
        ({"species": "wren", "label": 3}, "species", (tar_scan.TEXT, "wren")),
        ({"label": 3}, "species", ("", "")),
        ({"label": 3}, "cls", ("", "")),
        ({"label": None}, "", ("", "")),
        ({"label": ""}, "", ("", "")),
        ({"label": "a\0b\ud800"}, "", (tar_scan.TEXT, "a\\0b\\ud800")),
    ],
)
def test_labels_of_json(scan, values, asked, expected):
    index = scan([("a.png", A), ("a.json", json.dumps(values))], label=asked)
    assert (index.kind, *index.labels) == expected


def test_cls_comes_before_json_unless_a_field_is_named(scan):
    members = [("a.cls", "1"), ("a.jpg", A), ("a.json", '{"label": 2}')]
    assert scan(members).labels == ["1"]
    assert scan(members, label="cls").labels == ["1"]
    assert scan(members, label="label").labels == ["2"]
    assert scan([("a.cls", "1"), ("a.png", A), ("a.json", "{")]).labels == ["1"]  # not needed


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.cls", "cat")], "a.cls must hold an integer, got b'cat'; a label in words belongs in"),
        ([("a.cls", "")], "a.cls must hold an integer, got b''"),
        ([("a.cls", "1.0")], "must hold an integer"),
        ([("a.cls", "1" * 65)], "must hold an integer"),
        ([("a.json", '{"label": ')], "a.json cannot be read as JSON: Expecting value"),
        ([("a.json", "[" * 100_000)], "a.json cannot be read as JSON: maximum recursion"),
        ([("a.json", '{"label": ' + "1" * 5000 + "}")], "cannot be read as JSON: Exceeds the"),
        ([("a.json", b"\xff\xfe\xff")], "a.json cannot be read as JSON: "),
        ([("a.json", "[1]")], r"a.json: expected a JSON object, such as .*, got '\[1\]'"),
        ([("a.json", '{"label": [1]}')], r"a.json: label: expected an integer or a text, got '\[1"),
        ([("a.json", '{"label": true}')], "expected an integer or a text, got 'True'"),
        ([("a.json", '{"label": 0.5}')], "expected an integer or a text, got '0.5'"),
        (
            [("a.json", " " * (1 << 20) + "{}")],
            "a.json has 1,048,578 bytes; expected a JSON object of at most 1,048,576. Labels in",
        ),
        (
            [("a.cls", "1"), ("b.json", '{"label": "cat"}')],
            r"all texts; got a number \(.*a.tar: a\) and a text \(.*a.tar: b\). `data.label",
        ),
        ([("a.jpg", A), ("a.png", A)], "'a' has two images, a.jpg and a.png; expected one. A key"),
        ([("v1.5.jpg", A), ("v1.6.jpg", A)], None),
        ([("a.cls", "1"), ("a.cls", "2")], "'a' has two members cls, a.cls and a.cls"),
        (
            [("a.jpg", A), ("b.jpg", A), ("a.cls", "1")],
            "members of 'a' lie in several places; expected all members of a key one after the",
        ),
    ],
)
def test_samples_that_cannot_be_used(scan, members, message):
    if message is None:  # webdataset's rule: the key ends at the first dot
        assert scan(members).keys == [] and scan(members).examples == ["v1.5.jpg", "v1.6.jpg"]
        return
    with pytest.raises(UserError, match=message):
        scan(members)


def test_the_ending_of_images_can_be_named(scan):
    members = [("a.seg.png", A), ("a.jpg", A), ("a.png", b"x")]
    with pytest.raises(UserError, match=r"two images, a.jpg and a.png"):
        scan(members)
    assert scan(members, image="PNG").sizes.tolist() == [1]
    assert scan(members, image=".seg.png").sizes.tolist() == [len(A)]
    assert str(scan(members, image="jpg").left_out) == "2 .png"


def test_a_tar_that_is_cut_anywhere_is_refused(tmp_path):
    path = write(tmp_path / "a.tar", [("a.cls", "1"), ("a.png", A), ("b.png", A)])
    data = path.read_bytes()
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512  # of the last body
    for size in (*range(0, end + 1, 100), 512, 1024, 1536, end):
        path.write_bytes(data[:size])
        with pytest.raises(UserError, match=r"a.tar is no tar, or not whole \(.*; copy or"):
            of_file(path)
    path.write_bytes(data[: end + 512])
    assert of_file(path).keys == ["a", "b"]


def test_damage_is_told(tmp_path):
    path = write(tmp_path / "a.tar", [("a.png", A), ("b.png", A)])
    data = bytearray(path.read_bytes())
    data[1024:1034] = b"x" * 10  # of the second header
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"not whole \(no member begins at byte 1,024\); copy or"):
        of_file(path)


def test_a_size_below_zero_is_told(tmp_path):
    info = member("a.png", size=-512)
    block = info.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "a.tar"
    path.write_bytes(member("b.png").tobuf() + block + bytes(1024))
    with pytest.raises(UserError, match="no tar, or not whole"):
        of_file(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"not whole \(empty file\)"),
        (b"no tar at all" * 100, r"is no tar, or not whole \("),
        (b"\x1f\x8b\x08" + bytes(600), "is compressed, so images cannot be read one by one; decom"),
    ],
)
def test_what_is_no_tar(tmp_path, data, message):
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message):
        of_file(path)


def test_joined_by_cat(tmp_path):
    path = write(tmp_path / "a.tar", [("a.png", A)])
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(UserError, match=r"more follows the end mark at byte 1,024, .* not by `c"):
        of_file(path)


def test_noise_is_answered_with_an_error_or_a_smaller_set(tmp_path):
    path = write(tmp_path / "a.tar", [(f"{i}.png", A) for i in range(5)])
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(data.tobytes())
        try:
            assert len(of_file(path).keys) <= 5
        except UserError as error:
            assert re.match(re.escape(str(path)), str(error))


def test_a_body_that_is_not_there(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abcdef")
    with path.open("rb") as file:
        assert tar_scan.body(file, 2, 3) == b"cde"
        with pytest.raises(OSError, match="the tar has become shorter"):
            tar_scan.body(file, 4, 3)
