import numpy as np
import pytest

from tl.errors import UserError
from tl.models import registry
from tl.weights import convert, naming


def test_two_spellings_of_one_tensor_are_refused():
    with pytest.raises(UserError, match="two tensors mean 'predictions/bias'"):
        naming.canonical("keras", {"probs/bias": 0, "predictions/bias": 1})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["conv1.0.weight", "layer1.0.conv2.fc1.weight"], "ResNeSt or SK-ResNet"),
        (["stem.conv1.weight", "stages.0.blocks.0.norm1.weight"], "ResNet-v2 with a stem of three"),
        (["conv1.weight", "layer1.0.se.fc1.weight"], "channel attention"),
        (["conv1.weight", "layer1.0.bn1.weight"], "without running statistics"),
        (["module.encoder_q.conv1.weight"], "has these 1 tensors.*prefix rule: checkpoint, moco"),
    ],
)
def test_other_networks_are_refused_by_name(names, message):
    with pytest.raises(UserError, match=message):
        naming.detect(names)


@pytest.mark.parametrize(
    ("backbone", "scheme"),
    [
        ("resnet18", "torchvision"),
        ("resnet50", "torchvision"),
        ("resnext50_32x4d", "torchvision"),
        ("resnext101_32x8d", "torchvision"),
        ("resnext101_64x4d", "torchvision"),
        ("wide_resnet50_2", "torchvision"),
        ("resnet18d", "timm_resnet_d"),
        ("resnet50d", "timm_resnet_d"),
        ("resnetv2_50", "timm_resnet_v2"),
        ("resnetv2_50x1_bit", "timm_resnet_v2"),
        ("resnet50", "huggingface"),
        ("resnet50", "keras"),
        ("efficientnet_lite0", "efficientnet_lite"),
    ],
)
def test_the_shapes_of_known_networks_pass(backbone, scheme):
    shapes = convert.source_shapes(convert.shapes(registry.build(backbone)), scheme)
    tensors = {name: np.empty(shape) for name, shape in shapes.items()}
    assert naming.detect(tensors) == scheme
    naming.check_shapes(scheme, tensors)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(64, 1, 7, 7)], "for images of 1 channels; expected 3 channels"),
        ([(64, 3, 3, 3)], r"small images \(a first convolution of 3 x 3\)"),
        (
            [(64, 3, 7, 7), (512, 64, 1, 1), (512, 16, 3, 3), (256, 512, 1, 1)],
            "ResNeXt of 32 groups of 16 channels, which is not known in",
        ),
        (
            [(64, 3, 7, 7), (192, 64, 1, 1), (192, 192, 3, 3), (256, 192, 1, 1)],
            "Wide ResNet with a block of 192 channels",
        ),
    ],
)
def test_other_shapes_are_named(shapes, message):
    modules = ["stem/conv", *(f"stage1/block1/conv{number}/conv" for number in (1, 2, 3))]
    for scheme in ("torchvision", "huggingface", "keras"):
        tensors = {
            naming.source_name(scheme, module, "kernel"): np.empty(
                shape if scheme != "keras" else (shape[2], shape[3], shape[1], shape[0])
            )
            for module, shape in zip(modules, shapes, strict=False)
        }
        with pytest.raises(UserError, match=message):
            naming.check_shapes(scheme, tensors)


@pytest.mark.parametrize(
    ("channels", "pooled", "message"),
    [
        (32, False, r"filters \[32, 3, 3, 3\], and shortcuts without a pooling"),  # ResNet-C
        (64, False, "a ResNet-C, -S or -T .* which ResNet-D begins with 32 channels and pools"),
        (24, True, r"filters \[24, 3, 3, 3\], and shortcuts with a pooling"),  # ResNet-T
    ],
)
def test_other_stems_of_three_convolutions_are_no_resnet_d(channels, pooled, message):
    numbers = (1, 2) if pooled else (0, 1)
    shapes = {
        "conv1.0.weight": (channels, 3, 3, 3),
        "conv1.1.running_mean": (channels,),
        "layer1.0.conv1.weight": (64, 64, 3, 3),
        f"layer2.0.downsample.{numbers[0]}.weight": (128, 64, 1, 1),
        f"layer2.0.downsample.{numbers[1]}.weight": (128,),
    }
    tensors = {name: np.empty(shape) for name, shape in shapes.items()}
    scheme = naming.detect(tensors)
    assert scheme == "timm_resnet_d"
    with pytest.raises(UserError, match=message):
        naming.check_shapes(scheme, tensors)


def test_a_grouped_network_of_d_is_not_known():
    shapes = {
        "conv1.0.weight": (32, 3, 3, 3),
        **{
            f"layer1.0.conv{i}.weight": shape
            for i, shape in ((1, (128, 64, 1, 1)), (2, (128, 4, 3, 3)), (3, (256, 128, 1, 1)))
        },
    }
    with pytest.raises(
        UserError, match=r"ResNeXt of 32 groups of 4 channels, .*timm_resnet_d names"
    ):
        naming.check_shapes("timm_resnet_d", {k: np.empty(v) for k, v in shapes.items()})


def test_a_head_that_is_a_convolution_is_read_as_the_dense_layer():
    found = naming.canonical("timm_resnet_v2", {"head.fc.weight": np.ones((3, 2, 1, 1))})
    assert found["head.fc.weight"].shape == (3, 2)
    other = naming.canonical("torchvision", {"fc.weight": np.ones((3, 2, 1, 1))})
    assert other["fc.weight"].shape == (3, 2, 1, 1)


def test_unknown_scheme_lists_the_near_ones():
    with pytest.raises(UserError, match=r"'torch'.*the nearest are 'torchvision'"):
        naming.get("torch")


def test_a_scheme_of_another_network():
    with pytest.raises(UserError, match="scheme 'keras' has no name for top/conv"):
        naming.source_name("keras", "top/conv", "kernel")
