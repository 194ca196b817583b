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
        (["conv1.0.weight", "bn1.weight"], "ResNet-C, -D, -S or -T"),
        (["stem.conv.weight", "stages.0.blocks.0.norm1.weight"], "pre-activation ResNet-v2"),
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
        ("resnet50", "huggingface"),
        ("resnet50", "keras"),
        ("efficientnet_lite0", "efficientnet_lite"),
    ],
)
def test_the_shapes_of_known_networks_pass(backbone, scheme):
    names = convert.source_names(convert.shapes(registry.build(backbone)), scheme)
    shapes = {name: leaf.shape for name, (_, leaf) in names.items()}
    if naming.get(scheme).torch:
        shapes = {name: (*shape[:-3:-1], *shape[:-2]) for name, shape in shapes.items()}
    naming.check_shapes(scheme, {name: np.empty(shape) for name, shape in shapes.items()})


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(64, 1, 7, 7)], "for images of 1 channels; expected 3 channels"),
        ([(64, 3, 3, 3)], r"small images \(a first convolution of 3 x 3\)"),
        ([(64, 3, 7, 7), (128, 64, 1, 1), (128, 4, 3, 3), (256, 128, 1, 1)], "ResNeXt .*32 groups"),
        ([(64, 3, 7, 7), (128, 64, 1, 1), (128, 128, 3, 3), (256, 128, 1, 1)], "Wide ResNet .*128"),
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


def test_unknown_scheme_lists_the_near_ones():
    with pytest.raises(UserError, match=r"'torch'.*the nearest are 'torchvision'"):
        naming.get("torch")


def test_a_scheme_of_another_network():
    with pytest.raises(UserError, match="scheme 'keras' has no name for top/conv"):
        naming.source_name("keras", "top/conv", "kernel")
