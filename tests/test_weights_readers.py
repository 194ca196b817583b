import pathlib
import shutil
import zipfile

import h5py
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


def keras_file(path, write):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv1_conv"]
        group = file.create_group("conv1_conv")
        group.attrs["weight_names"] = [b"conv1_conv/kernel:0"]
        write(group)
    return path


def test_a_tensorflow_era_file(tmp_path):
    path = keras_file(
        tmp_path / "x", lambda group: group.create_dataset("conv1_conv/kernel:0", data=[1.0])
    )
    assert readers.read(path)["conv1_conv/kernel"].tolist() == [1.0]


def test_long_lists_of_names_are_split_over_attributes(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        for i in range(2):
            file.attrs[f"layer_names{i}"] = [f"layer{i}".encode()]
            file.create_group(f"layer{i}").attrs["weight_names"] = [b"kernel:0"]
            file[f"layer{i}/kernel:0"] = [i]
    assert list(readers.read(tmp_path / "x")) == ["layer0/kernel", "layer1/kernel"]


def test_keras_data_outside_the_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "other", "w") as other:
        other["secret"] = [1.0]
    (tmp_path / "raw").write_bytes(bytes(8))
    inside = "conv1_conv/kernel:0"
    attacks = {
        "link": lambda group: group.__setitem__(
            inside, h5py.ExternalLink(tmp_path / "other", "secret")
        ),
        "raw": lambda group: group.create_dataset(
            inside, (1,), "f8", external=[(tmp_path / "raw", 0, 8)]
        ),
        "declared": lambda group: group.create_dataset(inside, (10**12,), "f4", chunks=True),
        "compressed": lambda group: group.create_dataset(
            inside, data=np.zeros(10**5), compression="gzip"
        ),
    }
    for kind, write in attacks.items():
        with pytest.raises(UserError, match="is not stored plainly in this file"):
            readers.read(keras_file(tmp_path / kind, write))


def test_other_hdf5_files(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        file["data"] = [1.0]
    with pytest.raises(UserError, match=r"'layer_names' or the group 'layers', got \['data'\]"):
        readers.read(tmp_path / "x")


def test_layers_without_names_say_how_to_get_them(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        file["layers/conv2d/vars/0"] = [1.0]
    with pytest.raises(UserError, match=r"'conv2d' carries no name: Keras before 3\.6"):
        readers.read(tmp_path / "x")


def test_a_compressed_keras_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(GOLDEN / "keras.weights.h5", "model.weights.h5")
    with pytest.raises(UserError, match="is compressed"):
        readers.read(tmp_path / "x")
