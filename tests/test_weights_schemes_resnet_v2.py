import pytest

from tl.weights import naming


@pytest.mark.parametrize(
    ("module", "leaf", "name"),
    [
        ("stem", "kernel", "stem.conv.weight"),
        ("stage1/block1/norm1/bn", "scale", "stages.0.blocks.0.norm1.weight"),
        ("stage1/block1/norm1/gn", "scale", "stages.0.blocks.0.norm1.weight"),
        ("stage3/block23/norm3/bn", "var", "stages.2.blocks.22.norm3.running_var"),
        ("stage2/block4/conv2", "kernel", "stages.1.blocks.3.conv2.weight"),
        ("stage4/block1/downsample", "kernel", "stages.3.blocks.0.downsample.conv.weight"),
        ("pooled/gn", "bias", "norm.bias"),
        ("pooled/bn", "mean", "norm.running_mean"),
        ("head", "kernel", "head.fc.weight"),
    ],
)
def test_names_of_timm(module, leaf, name):
    assert naming.source_name("timm_resnet_v2", module, leaf) == name
    assert naming.in_backbone("timm_resnet_v2", name) == (module != "head")
