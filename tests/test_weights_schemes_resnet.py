import pytest

from tl.weights import naming

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


@pytest.mark.parametrize(("module", "leaf", "torchvision", "huggingface", "keras"), TABLE)
def test_resnet_names(module, leaf, torchvision, huggingface, keras):
    assert naming.source_name("torchvision", module, leaf) == torchvision
    assert naming.source_name("huggingface", module, leaf) == huggingface
    assert naming.source_name("keras", module, leaf) == keras


@pytest.mark.parametrize(
    ("module", "leaf", "name"),
    [
        ("stem/conv1/conv", "kernel", "conv1.0.weight"),
        ("stem/conv1/bn", "scale", "conv1.1.weight"),
        ("stem/conv2/conv", "kernel", "conv1.3.weight"),
        ("stem/conv2/bn", "mean", "conv1.4.running_mean"),
        ("stem/conv3/conv", "kernel", "conv1.6.weight"),
        ("stem/conv3/bn", "var", "bn1.running_var"),
        ("stage3/block12/conv2/bn", "bias", "layer3.11.bn2.bias"),
        ("stage2/block1/downsample/conv", "kernel", "layer2.0.downsample.1.weight"),
        ("stage2/block1/downsample/bn", "scale", "layer2.0.downsample.2.weight"),
        ("head", "bias", "fc.bias"),
    ],
)
def test_names_of_resnet_d(module, leaf, name):
    assert naming.source_name("timm_resnet_d", module, leaf) == name


def test_names_of_children_in_a_row():
    names = {
        "torchvision": ("0.weight", "conv1.weight"),
        "timm_resnet_d": ("0.3.bias", "conv1.3.bias"),
    }
    for scheme, (short, name) in names.items():
        assert naming.canonical_name(scheme, short) == name
        assert naming.canonical_name(scheme, "6.11.bn2.bias") == "layer3.11.bn2.bias"


def test_headless_huggingface_names_are_brought_to_the_full_ones():
    short = {"embedder.embedder.convolution.weight": 0, "encoder.stages.0.layers.0.x": 1}
    assert naming.canonical("huggingface", short) == {
        "resnet.embedder.embedder.convolution.weight": 0,
        "resnet.encoder.stages.0.layers.0.x": 1,
    }


@pytest.mark.parametrize("old", ["probs", "fc1000"])
def test_old_names_of_the_keras_head(old):
    assert naming.canonical("keras", {f"{old}/kernel": 0}) == {"predictions/kernel": 0}
