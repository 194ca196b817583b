"""Names of a ConvNeXt's tensors in timm, torchvision and transformers."""

from tl.weights.schemes.scheme import BLOCK, TORCH_LEAVES, Scheme

WIDTHS = (96, 128)  # channels of the first stage in the networks that are known
_DEPTHWISE = "stage1/block1/depthwise"
_NORM_CONV = {"norm": 0, "conv": 1}  # of a downsampling; the stem has them the other way round
_TORCHVISION = {"depthwise": 0, "norm": 2, "fc1": 3, "fc2": 5}  # 1 and 6 transpose, 4 is GELU
_HUGGINGFACE = {"depthwise": "dwconv", "norm": "layernorm", "fc1": "pwconv1", "fc2": "pwconv2"}


def _timm(unit: str) -> str:
    return {"depthwise": "conv_dw", "norm": "norm"}.get(unit, f"mlp.{unit}")


def _transformers(root: str, first: str) -> Scheme:
    stages = f"{root}.encoder.stages"
    return Scheme(
        rules=(
            (r"stem/conv", lambda: f"{root}.embeddings.patch_embeddings"),
            (r"stem/norm", lambda: f"{root}.embeddings.layernorm"),
            (
                BLOCK + r"downsample/(norm|conv)",
                lambda stage, block, kind: (
                    f"{stages}.{stage - 1}.downsampling_layer.{_NORM_CONV[kind]}"
                ),
            ),
            (
                BLOCK + r"(\w+)",
                lambda stage, block, unit: (
                    f"{stages}.{stage - 1}.layers.{block - 1}.{_HUGGINGFACE.get(unit, unit)}"
                ),
            ),
            (
                BLOCK[:-1],
                lambda stage, block: f"{stages}.{stage - 1}.layers.{block - 1}",
            ),
            (r"pooled/norm", lambda: f"{root}.layernorm"),
            (r"head", lambda: "classifier"),
        ),
        aliases=((r"^(embeddings|encoder|layernorm)\.", rf"{root}.\1."),),  # of a headless model
        leaves={**TORCH_LEAVES, "gamma": "layer_scale_parameter"},
        shapes={"grn/scale": (1, 1, 1, -1), "grn/bias": (1, 1, 1, -1)},
        first=first,
        second="stem/conv",
        backbone=rf"{root}\.",
    )


SCHEMES = {
    "timm_convnext": Scheme(
        rules=(
            (r"stem/(norm|conv)", lambda kind: f"stem.{1 - _NORM_CONV[kind]}"),
            (
                BLOCK + r"downsample/(norm|conv)",
                lambda stage, block, kind: f"stages.{stage - 1}.downsample.{_NORM_CONV[kind]}",
            ),
            (
                BLOCK + r"(\w+)",
                lambda stage, block, unit: f"stages.{stage - 1}.blocks.{block - 1}.{_timm(unit)}",
            ),
            (BLOCK[:-1], lambda stage, block: f"stages.{stage - 1}.blocks.{block - 1}"),
            (r"pooled/norm", lambda: "head.norm"),
            (r"head", lambda: "head.fc"),
        ),
        leaves={**TORCH_LEAVES, "gamma": "gamma"},
        first=_DEPTHWISE,  # many networks have a `stem.0`
        second="stem/conv",
        # With the layers of other heads, so that these are refused by name.
        backbone=r"(stem|stages|norm_pre|head\.(norm|pre_logits))\.",
    ),
    "torchvision_convnext": Scheme(
        rules=(
            (r"stem/(norm|conv)", lambda kind: f"features.0.{1 - _NORM_CONV[kind]}"),
            (
                BLOCK + r"downsample/(norm|conv)",
                lambda stage, block, kind: f"features.{2 * stage - 2}.{_NORM_CONV[kind]}",
            ),
            (
                BLOCK + r"(depthwise|norm|fc1|fc2)",
                lambda stage, block, unit: (
                    f"features.{2 * stage - 1}.{block - 1}.block.{_TORCHVISION[unit]}"
                ),
            ),
            (BLOCK[:-1], lambda stage, block: f"features.{2 * stage - 1}.{block - 1}"),
            (r"pooled/norm", lambda: "classifier.0"),
            (r"head", lambda: "classifier.2"),
        ),
        leaves={**TORCH_LEAVES, "gamma": "layer_scale"},
        shapes={"gamma": (-1, 1, 1)},
        first=_DEPTHWISE,
        second="stem/conv",
        backbone=r"(features|classifier\.0)\.",
    ),
    # Without a head the files of both have the same names, but for the leaf that comes first.
    "huggingface_convnext": _transformers("convnext", "stage1/block1/gamma"),
    "huggingface_convnextv2": _transformers("convnextv2", "stage1/block1/grn/scale"),
}
