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


def test_headless_huggingface_names_are_brought_to_the_full_ones():
    short = {"embedder.embedder.convolution.weight": 0, "encoder.stages.0.layers.0.x": 1}
    assert naming.canonical("huggingface", short) == {
        "resnet.embedder.embedder.convolution.weight": 0,
        "resnet.encoder.stages.0.layers.0.x": 1,
    }


@pytest.mark.parametrize("old", ["probs", "fc1000"])
def test_old_names_of_the_keras_head(old):
    assert naming.canonical("keras", {f"{old}/kernel": 0}) == {"predictions/kernel": 0}
