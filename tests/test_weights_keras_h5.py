import pathlib
import zipfile

import h5py
import numpy as np
import pytest

from tl.errors import UserError
from tl.weights.readers import WeightFile

GOLDEN = pathlib.Path(__file__).parent / "golden"


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
    assert WeightFile(path).tensors()["conv1_conv/kernel"].tolist() == [1.0]


def test_long_lists_of_names_are_split_over_attributes(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        for i in range(2):
            file.attrs[f"layer_names{i}"] = [f"layer{i}".encode()]
            file.create_group(f"layer{i}").attrs["weight_names"] = [b"kernel:0"]
            file[f"layer{i}/kernel:0"] = [i]
    assert list(WeightFile(tmp_path / "x").tensors()) == ["layer0/kernel", "layer1/kernel"]


def test_keras_data_outside_the_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "other", "w") as other:
        other["secret"] = other["known"] = [1.0]
    (tmp_path / "raw").write_bytes(bytes(8))
    inside = "conv1_conv/kernel:0"

    def link(group):
        group.file["known"] = [2.0]  # under the name that it has in the other file
        group[inside] = h5py.ExternalLink(tmp_path / "other", "known")

    attacks = {
        "link": link,
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
            WeightFile(keras_file(tmp_path / kind, write)).tensors()

    def link_to_what_only_the_other_file_has(group):
        group[inside] = h5py.ExternalLink(tmp_path / "other", "secret")

    with pytest.raises(UserError, match=r"cannot read weights from .*secret"):
        WeightFile(keras_file(tmp_path / "x", link_to_what_only_the_other_file_has)).tensors()


def test_other_hdf5_files(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        file["data"] = [1.0]
    with pytest.raises(UserError, match=r"'layer_names' or the group 'layers', got \['data'\]"):
        WeightFile(tmp_path / "x").tensors()


def test_layers_without_names_say_how_to_get_them(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        file["layers/conv2d/vars/0"] = [1.0]
    with pytest.raises(UserError, match=r"'conv2d' carries no name: Keras before 3\.6"):
        WeightFile(tmp_path / "x").tensors()


def test_a_compressed_keras_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(GOLDEN / "keras.weights.h5", "model.weights.h5")
    with pytest.raises(UserError, match="is compressed"):
        WeightFile(tmp_path / "x").tensors()
