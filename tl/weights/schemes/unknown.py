"""Networks that are not known here, told by one of their tensors' names."""

import re

EXPECTED = (
    "expected a ResNet, ResNeXt, Wide ResNet, ResNet-D, ResNet-v2, EfficientNet-Lite, ConvNeXt or "
    "Vision Transformer (ViT, DeiT, MAE, DINO, DINOv2, DINOv3, CLIP, SigLIP)"
)
# Pattern of one of the names, whatever stands before it, and what to call the network. The first
# ones have names like a plain ResNet's or EfficientNet's and other arithmetic.
OTHER_NETWORKS = tuple(
    (re.compile(rf"(?:.*[./])?(?:{pattern})"), network)
    for pattern, network in (
        (r"stage2\.0\.branch1\..*", "a ShuffleNet"),
        (r"features\.3\.squeeze\.weight", "a SqueezeNet"),
        (r"conv2_block1_preact_bn/gamma", "Keras' ResNet-v2"),
        (
            r"encoder\.stages\.0\.layers\.0\.norm1\.weight",
            "transformers' BiT or FocalNet (timm's BiT is known)",
        ),
        (
            r"stem\.conv1\.weight",
            "a ResNet-v2 with a stem of three convolutions, a CoAtNet or a MaxViT",
        ),
        (r"layer1\.0\.convs\.0\.weight", "a Res2Net"),
        (r"layer1\.0\.conv2\.(conv|fc1)\.weight", "a ResNeSt or SK-ResNet"),
        (r"layer1\.0\.(se|se_module|attn|attention|cbam)\..*", "a ResNet with channel attention"),
        (r"layer1\.0\.bn\d\.IN\.weight", "an IBN-Net (instance and batch normalisation)"),
        (
            r"layer2\.0\.shortcut\.0\.weight",
            "a ResNet for small images (with `shortcut` in its blocks)",
        ),
        (
            r"blocks\.\d+\.\d+\.se\..*|_blocks\.\d+\._se_reduce\.weight|block1a_se_reduce/kernel",
            "an EfficientNet or MobileNet with channel attention",
        ),
        (r"layers\.0\.blocks\.0\.attn\..*|features\.1\.0\.attn\..*", "a Swin Transformer"),
        (
            r"blocks\.0\.(gamma_1|attn\.(q_bias|q_proj\.weight|relative_position.*|rope.*))",
            "a BEiT or EVA",
        ),
        (r"storage_tokens", "a DINOv3 of its authors' names, where timm's and others' are read"),
        (r"dist_token|(embeddings\.)?distillation_token", "a distilled DeiT, which has two heads"),
        (
            r"resblocks\.0\.attn\..*",
            "a CLIP of OpenAI's names, where timm's and transformers' are read",
        ),
        (r"blocks\.0\.attn\.q_norm\.weight", "a Vision Transformer that normalises its queries"),
        (r"stages\.\d\.blocks\.\d+\.(convs\.0|xca\.qkv)\.weight", "an EdgeNeXt"),
        (
            r"head\.pre_logits\.fc\.weight",
            "a network with a hidden layer in its head, such as timm's convnext_large_mlp",
        ),
        (
            r"stages\.0\.0\.dwconv\.weight",
            "a ConvNeXt of its authors' names, where timm's and others' are read",
        ),
        (
            r"stages\.0\.layers\.0\.depthwise_conv\.weight",
            "a ConvNeXt of DINOv3 with transformers' names, where timm's are read",
        ),
        (r"features\.denseblock1\..*", "a DenseNet"),
        (
            r"features\.1\.(conv\.0(\.0)?|(0\.)?block\.0\.0)\.weight|expanded_conv_.*",
            "a MobileNet, or torchvision's EfficientNet",
        ),
        (r"features\.0\.weight|block1_conv1/kernel", "a VGG or AlexNet"),
        (r"(Conv2d_1a_3x3|inception3a\.branch1)\.conv\.weight", "an Inception network"),
        (r"trunk_output\.block1\..*|s1\.b1\.conv1\.conv\.weight", "a RegNet"),
    )
)
