import hashlib
import pathlib
import shutil

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tl.errors import UserError
from tl.weights.readers import WeightFile

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("hf_bottleneck.safetensors", 122),
        ("timm_zip.pth", 122),
        ("timm_legacy.pth", 122),
        ("keras_legacy.h5", 122),
        ("keras_model.h5", 122),
        ("keras.weights.h5", 122),
        ("keras.keras", 122),
    ],
)
def test_the_format_is_told_by_content(tmp_path, file, count):
    path = shutil.copy(GOLDEN / file, tmp_path / "weights.bin")
    assert len(WeightFile(path).tensors()) == count


@pytest.mark.parametrize(
    "file",
    [
        "hf_bottleneck.safetensors",
        "timm_zip.pth",
        "timm_legacy.pth",
        "keras_legacy.h5",
        "keras_model.h5",
        "keras.weights.h5",
        "keras.keras",
    ],
)
def test_a_file_is_read_once(tmp_path, file):
    path = pathlib.Path(shutil.copy(GOLDEN / file, tmp_path))
    weights = WeightFile(path)
    path.unlink()  # so whatever opens it again fails
    assert len(weights.tensors()) == 122
    assert weights.checksum() == hashlib.sha256((GOLDEN / file).read_bytes()).hexdigest()
    assert weights.checksum("md5") == hashlib.md5((GOLDEN / file).read_bytes()).hexdigest()


def test_metadata_of_safetensors_alone(tmp_path):
    safetensors.numpy.save_file({"a": np.ones(1)}, tmp_path / "x", {"k": "v"})
    assert WeightFile(tmp_path / "x").metadata() == {"k": "v"}
    safetensors.numpy.save_file({"a": np.ones(1)}, tmp_path / "x")
    assert WeightFile(tmp_path / "x").metadata() == {}
    assert WeightFile(GOLDEN / "keras.keras").metadata() == {}
    damaged = (b"[]", b"{", b'{"__metadata__":1}', b'{"a":' + 10**5 * b"[")
    for data in (b"", *(safetensors_bytes(header, b"") for header in damaged)):
        (tmp_path / "x").write_bytes(data)
        assert WeightFile(tmp_path / "x").metadata() == {}


def test_half_precision_safetensors(tmp_path):
    path = tmp_path / "x"
    arrays = {"a": np.ones((2, 2), ml_dtypes.bfloat16), "b": np.ones(1, np.float16)}
    safetensors.numpy.save_file(arrays, path)
    assert {k: v.dtype for k, v in WeightFile(path).tensors().items()} == {
        "a": ml_dtypes.bfloat16,
        "b": np.float16,
    }


def safetensors_bytes(header, data):
    return len(header).to_bytes(8, "little") + header + data


_ONE = b'"dtype":"F32","shape":[1],"data_offsets":'


@pytest.mark.parametrize(
    "data",
    [
        safetensors_bytes(b'{"a":{' + _ONE + b"[0,4]}}", b"\0\0"),
        safetensors_bytes(b'{"a":{' + _ONE + b"[0,400]}}", bytes(4)),
        safetensors_bytes(b'{"a":{' + _ONE + b'[0,4]},"b":{' + _ONE + b"[0,4]}}", bytes(4)),
        safetensors_bytes(b'{"a":{' + _ONE + b'[0,4]},"a":{' + _ONE + b"[4,8]}}", bytes(8)),
        (1 << 60).to_bytes(8, "little") + b"{}",
    ],
    ids=["truncated", "beyond the end", "overlapping", "one name twice", "absurd header"],
)
def test_damaged_safetensors(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot read weights from .*x\.safetensors"):
        WeightFile(path).tensors()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "in no format"),
        (b"version https://git-lfs.github.com/spec/v1", "begins with b'version https://git-lfs"),
        (b"<!DOCTYPE html>", "begins with b'<!DOCTYPE html>'"),
        (b"PK\x03\x04 not a zip", "cannot read weights|zip"),
        (b"\x89HDF\r\n\x1a\n not HDF5", "cannot read weights"),
    ],
)
def test_other_files(tmp_path, data, message):
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        WeightFile(tmp_path / "x.pth").tensors()
    assert "x.pth" in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no weight file at .*nothing"):
        WeightFile(tmp_path / "nothing").tensors()


def test_an_npz_names_where_its_weights_are_to_be_had(tmp_path):
    np.savez(tmp_path / "BiT-M-R50x1.npz", kernel=np.zeros(2))
    with pytest.raises(UserError, match=r"R50x1\.npz is an npz of NumPy, .*timm has Google's BiT"):
        WeightFile(tmp_path / "BiT-M-R50x1.npz").tensors()
