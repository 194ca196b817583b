import pytest

from tl.errors import UserError
from tl.weights import naming


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("stage2.0.branch1.0.weight", "a ShuffleNet"),
        ("features.3.squeeze.weight", "a SqueezeNet"),
        ("inception3a.branch1.conv.weight", "an Inception"),
        ("conv2_block1_preact_bn/gamma", "Keras' ResNet-v2"),
        ("bit.encoder.stages.0.layers.0.norm1.weight", "transformers' BiT or FocalNet"),
        ("stem.conv1.weight", "a ResNet-v2 with a stem of three"),
        ("layer1.0.convs.0.weight", "Res2Net"),
        ("layer1.0.conv2.conv.weight", "ResNeSt"),
        ("layer1.0.se_module.fc1.weight", "channel attention"),
        ("layer1.0.bn1.IN.weight", "IBN-Net"),
        ("layer2.0.shortcut.0.weight", "a ResNet for small images"),
        ("blocks.1.0.se.conv_reduce.weight", "an EfficientNet or MobileNet with channel"),
        ("_blocks.0._se_reduce.weight", "an EfficientNet or MobileNet with channel"),
        ("blocks.0.gamma_1", "a BEiT or EVA"),
        ("blocks.0.attn.q_bias", "a BEiT or EVA"),
        ("storage_tokens", "a DINOv3 of its authors' names"),
        ("dist_token", "a distilled DeiT"),
        ("deit.embeddings.distillation_token", "a distilled DeiT"),
        ("visual.transformer.resblocks.0.attn.in_proj_weight", "a CLIP of OpenAI's names"),
        ("blocks.0.attn.q_norm.weight", "a Vision Transformer that normalises"),
        ("layers.0.blocks.0.attn.qkv.weight", "a Swin"),
        ("stages.1.blocks.2.convs.0.weight", "an EdgeNeXt"),
        ("stages.2.blocks.5.xca.qkv.weight", "an EdgeNeXt"),
        (
            "head.pre_logits.fc.weight",
            "a network with a hidden layer in its head, such as timm's c",
        ),
        ("stages.0.0.dwconv.weight", "a ConvNeXt of its authors' names"),
        ("stages.0.layers.0.depthwise_conv.weight", "a ConvNeXt of DINOv3 with transformers' n"),
        ("features.denseblock1.denselayer1.norm1.weight", "a DenseNet"),
        ("features.1.conv.0.0.weight", "a MobileNet, or"),
        ("features.1.block.0.0.weight", "a MobileNet, or"),
        ("features.1.0.block.0.0.weight", "a MobileNet, or torchvision's EfficientNet"),
        ("features.0.weight", "a VGG or AlexNet"),
        ("block1_conv1/kernel", "a VGG or AlexNet"),
        ("Conv2d_1a_3x3.conv.weight", "an Inception"),
        ("s1.b1.conv1.conv.weight", "a RegNet"),
    ],
)
def test_well_known_networks_are_named(name, network):
    for prefix in ("", "state_dict/module."):
        with pytest.raises(UserError, match=rf"^it holds .*{network}.*; expected a ResNet, "):
            naming.detect([prefix + name])
