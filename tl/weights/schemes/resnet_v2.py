"""Names of a ResNet-v2's tensors in timm."""

from tl.weights.schemes.scheme import BLOCK, Scheme

_IN_BLOCK = "stages.{}.blocks.{}.{}"

SCHEMES = {
    "timm_resnet_v2": Scheme(
        rules=(
            (r"stem", lambda: "stem.conv"),
            (
                BLOCK + r"(conv\d)",
                lambda stage, block, unit: _IN_BLOCK.format(stage - 1, block - 1, unit),
            ),
            (
                BLOCK + r"(norm\d)/(?:bn|gn)",
                lambda stage, block, unit: _IN_BLOCK.format(stage - 1, block - 1, unit),
            ),
            (
                BLOCK + r"downsample",
                lambda stage, block: _IN_BLOCK.format(stage - 1, block - 1, "downsample.conv"),
            ),
            (r"pooled/(?:bn|gn)", lambda: "norm"),
            (r"head", lambda: "head.fc"),
        ),
        first="stage1/block1/conv1",  # many networks have a `stem.conv`
        second="stem",
        backbone=r"(stem|stages|norm)\.",
        head_is_conv=True,
    ),
}
