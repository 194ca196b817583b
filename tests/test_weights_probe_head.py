import dataclasses

import numpy as np
import pytest

from tl.errors import UserError
from tl.weights import probe_head
from tl.weights.probe_head import HEAD, ProbeHead
from tl.weights.spec import Preprocessing, WeightChoice

LINEAR = ProbeHead(
    kind="linear",
    tensors={"kernel": np.float32([[1, 2, 3], [4, 5, 6]]), "bias": np.float32([7, 8, 9])},
    setting={"l2": 0.1},
    endpoint="stem+stage1",
    pooling="grid2",
    dtype="bfloat16",
    fold_batch_norm=False,
    image_shape=(8, 8, 3),
    preprocessing=Preprocessing(size=32, mean=(1.0, 2.0, 3.0)),
    weights=WeightChoice("w.pth", like="resnet50.tv1", prefix="moco"),
    sha256="ab" * 32,
    classes=("cat", "dog", "emü"),
    temperature=1.5,
    seed=3,
)
KNN = dataclasses.replace(
    LINEAR,
    kind="knn",
    tensors={"directions": np.eye(2, dtype=np.float32), "labels": np.int64([2, 0])},
    setting={"k": 1, "temperature": 0.07},
    image_shape=None,
)


@pytest.mark.parametrize("head", [LINEAR, KNN], ids=["linear", "knn"])
def test_read_gives_back_what_was_saved(head, tmp_path):
    head.save(tmp_path / HEAD)
    read = probe_head.read(tmp_path / HEAD)
    for name, tensor in head.tensors.items():
        np.testing.assert_array_equal(read.tensors[name], tensor)
        assert read.tensors[name].dtype == tensor.dtype
    assert dataclasses.replace(read, tensors={}) == dataclasses.replace(head, tensors={})


def test_find(tmp_path):
    assert probe_head.find(tmp_path) is None
    LINEAR.save(tmp_path / HEAD)
    assert probe_head.find(tmp_path) == probe_head.find(tmp_path / HEAD) == tmp_path / HEAD
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"damaged")
    assert probe_head.find(other) is None
    assert probe_head.find(tmp_path / "absent.safetensors") is None


def test_a_damaged_file_is_one_message(tmp_path):
    LINEAR.save(tmp_path / HEAD)
    data = (tmp_path / HEAD).read_bytes()
    (tmp_path / HEAD).write_bytes(data[:-8])
    with pytest.raises(UserError, match=r"the classifier .* is damaged .*; restore it, or make"):
        probe_head.read(tmp_path / HEAD)
    dataclasses.replace(LINEAR, classes=("cat", "dog")).save(tmp_path / HEAD)
    with pytest.raises(UserError, match=r"a kernel \(2, 3\) for 2 classes"):
        probe_head.read(tmp_path / HEAD)
