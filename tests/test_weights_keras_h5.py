import os
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


def plain():
    return WeightFile(GOLDEN / "keras.weights.h5").tensors()


def assert_has(path, prefix, **others):
    """The file has the weights of the golden file with a prefix, and these others."""
    expected = {f"{prefix}{name}": value for name, value in plain().items()} | others
    found = WeightFile(path).tensors()
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def add_layer(file, group, name, *variables):
    """Adds a layer as Keras 3 does; its variables are numbered."""
    for number, value in enumerate(variables):
        file[f"{group}/vars/{number}"] = value
    file.require_group(f"{group}/vars").attrs["name"] = name


def nest(path, *groups):
    """Writes the golden model inside others, whose groups are given with their names."""
    with h5py.File(path, "w") as file, h5py.File(GOLDEN / "keras.weights.h5") as golden:
        inner = file
        for group, name in groups:
            inner = inner.create_group(group)
            inner.create_group("vars").attrs["name"] = name
        golden.copy("layers", inner)
        add_layer(file, "layers/dense_1", "dense", np.ones((2, 3)), np.ones(3))
        add_layer(file, "layers/dropout", "dropout")
        add_layer(file, "optimizer", "adam", np.ones(1), np.ones(1), np.ones(1))
    return path


DENSE = {"dense/kernel": np.ones((2, 3)), "dense/bias": np.ones(3)}


@pytest.mark.parametrize(
    ("groups", "prefix"),
    [
        ([], ""),
        ([("layers/functional", "resnet50")], "resnet50/"),
        ([("layers/functional", "outer"), ("layers/functional", "resnet50")], "outer/resnet50/"),
        ([("backbone", "resnet50")], "resnet50/"),  # an attribute of a subclass of Model
    ],
)
def test_a_network_inside_a_model(tmp_path, groups, prefix):
    path = nest(tmp_path / "x.weights.h5", *groups)
    assert_has(path, prefix, **DENSE)
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.write(path, "model.weights.h5")
    assert_has(tmp_path / "x.keras", prefix, **DENSE)


@pytest.mark.parametrize("end", ["", ":0"])  # of Keras 3, of TensorFlow's
def test_a_network_inside_a_legacy_model(tmp_path, end):
    with h5py.File(tmp_path / "x", "w") as file:
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"input", b"resnet50", b"dense"]
        root.create_group("input").attrs["weight_names"] = []
        for layer, names in (
            ("resnet50", {f"{name}{end}": value for name, value in plain().items()}),
            ("dense", {f"sequential/{name}{end}": value for name, value in DENSE.items()}),
        ):
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in names.items():
                group[name] = value
    assert_has(tmp_path / "x", "resnet50/", **DENSE)


def test_layers_of_other_kinds(tmp_path):
    with h5py.File(tmp_path / "x", "w") as file:
        add_layer(file, "layers/batch_normalization", "bn", *map(np.ones, (1, 2, 3, 4)))
        add_layer(file, "layers/mixer", "mixer", *map(np.ones, (1, 2, 3)))
        add_layer(file, "layers/attention/query", "query", np.ones(5))
    found = {name: len(value) for name, value in WeightFile(tmp_path / "x").tensors().items()}
    assert found == {
        "attention/query/kernel": 5,
        "bn/gamma": 1,
        "bn/beta": 2,
        "bn/moving_mean": 3,
        "bn/moving_variance": 4,
        "mixer/0": 1,
        "mixer/1": 2,
        "mixer/2": 3,
    }


def test_layers_that_contain_each_other_are_refused(tmp_path):
    with h5py.File(tmp_path / "loop", "w") as file:
        file.create_group("layers")["a"] = file
    with h5py.File(tmp_path / "many", "w") as file:
        inner = file.create_group("layers")
        for _ in range(30):
            child = inner.create_group("a")
            inner["b"] = child
            inner = child
    for name in ("loop", "many"):
        with pytest.raises(UserError, match="nested beyond reason"):
            WeightFile(tmp_path / name).tensors()


def test_keras_data_outside_the_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "other", "w") as other:
        other["secret"] = [1.0]
    (tmp_path / "raw").write_bytes(bytes(8))
    inside = "conv1_conv/kernel:0"
    attacks = {
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

    os.mkfifo(tmp_path / "fifo")  # to open it would wait for ever
    links = {
        "external": lambda group: group.__setitem__(
            inside, h5py.ExternalLink(tmp_path / "other", "secret")
        ),
        "pipe": lambda group: group.__setitem__(
            inside, h5py.ExternalLink(tmp_path / "fifo", "secret")
        ),
        "through a soft one": lambda group: (
            group.file.update({"door": h5py.ExternalLink(tmp_path / "fifo", "/")})
            or group.__setitem__(inside, h5py.SoftLink("/door/secret"))
        ),
    }
    for kind, write in links.items():
        with pytest.raises(UserError, match=r"its 'kernel:0' is a link, which Keras never writes"):
            WeightFile(keras_file(tmp_path / kind, write)).tensors()
    with h5py.File(tmp_path / "numbered", "w") as file:
        file.create_group("layers")["dense"] = h5py.ExternalLink(tmp_path / "fifo", "/")
    with pytest.raises(UserError, match=r"its 'dense' is a link"):
        WeightFile(tmp_path / "numbered").tensors()


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
