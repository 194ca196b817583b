import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tests.networks import random_variables, tiny_resnet
from tl.errors import UserError
from tl.weights import convert


@pytest.fixture(scope="module")
def model():
    return tiny_resnet()


@pytest.fixture
def tensors(model):
    return convert.from_variables(random_variables(model), "torchvision")


@pytest.fixture(scope="module")
def shapes(model):
    return convert.shapes(model)


def test_kernels_are_transposed_and_vectors_are_not(model, tensors, shapes):
    variables = convert.to_variables(tensors, shapes, "torchvision")
    assert tensors["conv1.weight"].shape == (4, 3, 7, 7)
    stem = variables["params"]["stem"]["conv"]["kernel"]
    assert stem[1, 2, 0, 3] == tensors["conv1.weight"][3, 0, 1, 2]
    assert variables["params"]["head"]["kernel"][5, 6] == tensors["fc.weight"][6, 5]
    assert np.array_equal(variables["batch_stats"]["stem"]["bn"]["var"], tensors["bn1.running_var"])


def test_import_is_the_inverse_of_export(model, tensors, shapes):
    again = convert.from_variables(
        convert.to_variables(tensors, shapes, "torchvision"), "torchvision"
    )
    assert again.keys() == tensors.keys()
    for name, value in tensors.items():
        assert np.array_equal(again[name], value) and again[name].dtype == value.dtype, name


def test_counters_are_the_only_tensors_left_out(tensors, shapes):
    without = {k: v for k, v in tensors.items() if not k.endswith(".num_batches_tracked")}
    assert len(tensors) - len(without) == 20  # one for each normalisation
    convert.to_variables(without, shapes, "torchvision")
    tensors["num_batches"] = np.zeros(())
    with pytest.raises(UserError, match=r"1 in the file and not in the model:\n  num_batches$"):
        convert.to_variables(tensors, shapes, "torchvision")


def test_missing_and_unexpected_names_are_both_listed(tensors, shapes):
    tensors["layer9.weight"] = tensors.pop("layer1.1.conv2.weight")
    message = (
        r"1 missing from the file:\n  layer1\.1\.conv2\.weight\n"
        r"1 in the file and not in the model:\n  layer9\.weight"
    )
    with pytest.raises(UserError, match=message):
        convert.to_variables(tensors, shapes, "torchvision")


def test_long_lists_are_cut_and_counted(tensors, shapes):
    for i in range(11):
        tensors[f"extra{i:02}"] = np.zeros(1, np.float32)
    with pytest.raises(UserError, match=r"11 in the file(.|\n)*extra07\n  \.\.\. and 3 more"):
        convert.to_variables(tensors, shapes, "torchvision")


def test_shape_mismatches_show_both_sides(tensors, shapes):
    tensors["fc.bias"] = np.zeros(3, np.float32)
    message = r"fc\.bias: the file's float32\[3\] for the model's params/head/bias float32\[7\]"
    with pytest.raises(UserError, match=message):
        convert.to_variables(tensors, shapes, "torchvision")


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint8, np.complex64])
def test_types_that_float32_cannot_hold_are_refused(tensors, shapes, dtype):
    tensors["fc.bias"] = np.zeros(7, dtype)
    with pytest.raises(UserError, match=rf"fc\.bias: the file's {np.dtype(dtype)}\[7\]"):
        convert.to_variables(tensors, shapes, "torchvision")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened(tensors, shapes, dtype):
    tensors["fc.bias"] = np.arange(7).astype(dtype)
    bias = convert.to_variables(tensors, shapes, "torchvision")["params"]["head"]["bias"]
    assert bias.dtype == np.float32 and bias.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_the_head_is_dropped_on_both_sides_only_when_asked(tensors):
    headless = convert.shapes(tiny_resnet(num_classes=0))
    with pytest.raises(UserError, match=r"fc\.bias\n  fc\.weight"):
        convert.to_variables(tensors, headless, "torchvision")
    for shapes in (headless, convert.shapes(tiny_resnet(num_classes=3))):
        variables = convert.to_variables(tensors, shapes, "torchvision", drop_head=True)
        assert "head" not in variables["params"] and "stem" in variables["params"]


def test_exports_are_contiguous_and_float32(model):
    variables = random_variables(model)
    variables["params"]["head"]["bias"] = jnp.ones(7, jnp.bfloat16)
    for name, value in convert.from_variables(variables, "huggingface").items():
        assert value.flags.c_contiguous, name
        assert value.dtype == (np.int64 if name.endswith("num_batches_tracked") else np.float32)


def test_keras_is_not_written(model):
    with pytest.raises(UserError, match="torch's layouts only, not in 'keras'"):
        convert.from_variables(random_variables(model), "keras")


def test_keras_biases_move_into_the_mean():
    tensors = {
        "conv1_conv/kernel": np.ones(1),
        "conv1_conv/bias": np.array([0.5, -2.0], np.float32),
        "conv1_bn/moving_mean": np.array([1.0, 1.0], np.float32),
        "predictions/bias": np.array([3.0]),
    }
    folded = convert._fold_conv_biases(tensors)
    assert folded["conv1_bn/moving_mean"].tolist() == [0.5, 3.0]
    assert folded.keys() == tensors.keys() - {"conv1_conv/bias"}
    assert tensors["conv1_bn/moving_mean"].tolist() == [1.0, 1.0]
