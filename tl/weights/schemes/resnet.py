"""Names of a ResNet's tensors in torchvision and timm, transformers and Keras."""

from tl.weights.schemes.scheme import BLOCK, Scheme

# Groups and channels of the first block's 3x3 convolution that are known beside (1, 64), by scheme.
BLOCKS = {"torchvision": {(1, 128), (32, 128), (32, 256), (64, 256)}}
DEEP_STEM = 32  # channels of ResNet-D's first convolution; ResNet-T has 24, ResNet-S 64
_DOWNSAMPLE = {"conv": 0, "bn": 1}
_DEEP_STEM = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6}  # 2 and 5 are ReLUs
_HF_KIND = {"conv": "convolution", "bn": "normalization"}
KERAS_LEAVES = {
    "kernel": "kernel",
    "bias": "bias",
    "scale": "gamma",
    "bn/bias": "beta",
    "mean": "moving_mean",
    "var": "moving_variance",
}

# Names of nn.Sequential(*resnet.children()), which tutorials make a backbone of.
_CHILDREN = (
    (r"^0\.(?=weight$|\d\.)", "conv1."),
    (r"^1\.(?=(weight|bias|running_mean|running_var|num_batches_tracked)$)", "bn1."),
    *((rf"^{i + 3}\.(?=\d+\.)", f"layer{i}.") for i in (1, 2, 3, 4)),
)
_IN_BLOCK = (
    BLOCK + r"conv(\d)/(conv|bn)",
    lambda stage, block, i, kind: f"layer{stage}.{block - 1}.{kind}{i}",
)


def _deep_stem(number: int, kind: str) -> str:
    module = f"{kind}{number}"
    return f"conv1.{_DEEP_STEM[module]}" if module in _DEEP_STEM else "bn1"


SCHEMES = {
    "torchvision": Scheme(  # timm's ResNets use the same names, and ResNeXt and Wide ResNet do
        rules=(
            (r"stem/(conv|bn)", lambda kind: f"{kind}1"),
            _IN_BLOCK,
            (
                BLOCK + r"downsample/(conv|bn)",
                lambda stage, block, kind: (
                    f"layer{stage}.{block - 1}.downsample.{_DOWNSAMPLE[kind]}"
                ),
            ),
            (r"head", lambda: "fc"),
        ),
        aliases=_CHILDREN,
        second="stage1/block1/conv1/conv",
        backbone=r"(conv1|bn1|layer[1-4])\.",
    ),
    "timm_resnet_d": Scheme(
        rules=(
            (r"stem/conv(\d)/(conv|bn)", _deep_stem),
            _IN_BLOCK,
            (
                BLOCK + r"downsample/(conv|bn)",
                lambda stage, block, kind: (  # 0 is the pooling
                    f"layer{stage}.{block - 1}.downsample.{_DOWNSAMPLE[kind] + 1}"
                ),
            ),
            (r"head", lambda: "fc"),
        ),
        aliases=_CHILDREN,
        first="stem/conv1/conv",
        second="stage1/block1/conv1/conv",
        backbone=r"(conv1|bn1|layer[1-4])\.",
    ),
    "huggingface": Scheme(
        rules=(
            (r"stem/(conv|bn)", lambda kind: f"resnet.embedder.embedder.{_HF_KIND[kind]}"),
            (
                BLOCK + r"conv(\d)/(conv|bn)",
                lambda stage, block, i, kind: (
                    f"resnet.encoder.stages.{stage - 1}.layers.{block - 1}"
                    f".layer.{i - 1}.{_HF_KIND[kind]}"
                ),
            ),
            (
                BLOCK + r"downsample/(conv|bn)",
                lambda stage, block, kind: (
                    f"resnet.encoder.stages.{stage - 1}.layers.{block - 1}"
                    f".shortcut.{_HF_KIND[kind]}"
                ),
            ),
            (r"head", lambda: "classifier.1"),
        ),
        second="stage1/block1/conv1/conv",
        backbone=r"resnet\.",
        aliases=((r"^(embedder|encoder)\.", r"resnet.\1."),),  # names of a headless ResNetModel
    ),
    "keras": Scheme(
        rules=(
            (r"stem/(conv|bn)", lambda kind: f"conv1_{kind}"),
            (
                BLOCK + r"conv(\d)/(conv|bn)",
                lambda stage, block, i, kind: f"conv{stage + 1}_block{block}_{i}_{kind}",
            ),
            (
                BLOCK + r"downsample/(conv|bn)",
                lambda stage, block, kind: f"conv{stage + 1}_block{block}_0_{kind}",
            ),
            (r"head", lambda: "predictions"),
        ),
        second="stage1/block1/conv1/conv",
        backbone=r"conv[1-5]_",
        aliases=((r"^(probs|fc1000)/", "predictions/"),),
        leaves=KERAS_LEAVES,
        separator="/",
        torch=False,
        implies_preprocessing=True,
    ),
}
