import pytest

from tl.weights import naming

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


@pytest.mark.parametrize(("module", "leaf", "package", "timm"), LITE_TABLE)
def test_efficientnet_lite_names(module, leaf, package, timm):
    assert naming.source_name("efficientnet_lite", module, leaf) == package
    assert naming.source_name("timm_efficientnet_lite", module, leaf) == timm


def test_numbers_of_the_packages_blocks_follow_the_networks_depth():
    path = ("stage4/block3/depthwise/conv", "kernel")
    names = [
        naming.source_name(scheme, *path) for scheme in ("efficientnet_lite", "efficientnet_lite1")
    ]
    assert names == ["_blocks.7._depthwise_conv.weight", "_blocks.9._depthwise_conv.weight"]
