import pathlib
import shutil

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tl.errors import UserError
from tl.weights import readers

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
    assert len(readers.read(path)) == count


def test_half_precision_safetensors(tmp_path):
    path = tmp_path / "x"
    arrays = {"a": np.ones((2, 2), ml_dtypes.bfloat16), "b": np.ones(1, np.float16)}
    safetensors.numpy.save_file(arrays, path)
    assert {k: v.dtype for k, v in readers.read(path).items()} == {
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
        readers.read(path)


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
        readers.read(tmp_path / "x.pth")
    assert "x.pth" in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no weight file at .*nothing"):
        readers.read(tmp_path / "nothing")
