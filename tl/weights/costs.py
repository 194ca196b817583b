"""Parameters and multiply-adds of the networks in the catalogue."""

from tl.models import registry
from tl.models.backbone import FINAL
from tl.weights.spec import WeightSpec

# Network, parameters without the head, billions of multiply-adds for one image of each size in
# pixels. Counted by `python -m tests.make_costs`: products of convolutions and matrices.
_COSTS = """
resnet18 11176512 160:0.93 224:1.81
resnet34 21284672 160:1.87 224:3.66
resnet50 23508032 160:2.09 176:2.61 224:4.09
resnet101 42500160 160:3.98 176:4.90 224:7.80
resnet152 58143808 160:5.87 176:7.19 224:11.51
resnext50_32x4d 22979904 160:2.16 176:2.69 224:4.23
resnext101_32x4d 42128704 224:7.97
resnext101_32x8d 86742336 176:10.28 224:16.41
resnext101_64x4d 81406272 224:15.46
wide_resnet50_2 66834240 176:7.27 224:11.40
wide_resnet101_2 124837696 176:14.28 224:22.75
resnet18d 11195744 224:2.05
resnet34d 21303904 224:3.90
resnet50d 23527264 160:2.21 224:4.33
resnet101d 42519392 224:8.04 256:10.50
resnet152d 58163040 224:11.75 256:15.35
resnetv2_50 23500352 224:4.09
resnetv2_101 42492480 224:7.80
resnetv2_50x1_bit 23500352 224:4.09 448:16.35
resnetv2_101x1_bit 42492480 224:7.80 448:31.20
efficientnet_lite0 3371008 224:0.38
efficientnet_lite1 4135680 240:0.60
efficientnet_lite2 4811072 260:0.86
efficientnet_lite3 6916096 300:1.61
efficientnet_lite4 11725568 380:3.94
vit_tiny_patch16 5524416 224:1.25 384:4.68
vit_small_patch16 21665664 224:4.60 384:15.49
vit_base_patch16 85798656 224:17.56 384:55.48
vit_small_patch32 22493952 224:1.14 384:3.44
vit_base_patch32 87455232 224:4.41 384:13.04
vit_small_patch8 21670272 224:22.41
vit_base_patch8 85807872 224:78.15
vit_small_patch14 22056192 518:46.70
vit_base_patch14 86579712 518:151.57
vit_small_patch14_reg4 22057344 518:46.88
vit_base_patch14_reg4 86582016 518:152.12
vit_base_patch16_clip 85799424 224:17.56 384:55.48
vit_base_patch32_clip 87456000 224:4.41 256:5.75 384:13.04 448:17.91
convnext_tiny 27820128 224:4.45 384:13.09
convnext_small 49454688 224:8.68 384:25.52
convnext_base 87566464 224:15.35 384:45.12
convnextv2_tiny 27866496 224:4.45 384:13.09
convnextv2_base 87692800 224:15.35 384:45.12
"""


def parameters(spec: WeightSpec) -> int:
    """Returns the number of parameters of a public set, with its head."""
    head = (registry.get(spec.backbone).outputs[FINAL].width + 1) * spec.num_classes
    return _TRUNKS[spec.backbone] + head


def multiply_adds(spec: WeightSpec) -> float:
    """Returns the multiply-adds for an image at a public set's size, in billions, without a head.

    They are half the FLOPs.
    """
    return _MULTIPLY_ADDS[spec.backbone, spec.preprocessing.size]


_ROWS = [line.split() for line in _COSTS.strip().splitlines()]
_TRUNKS = {backbone: int(count) for backbone, count, *_ in _ROWS}
_MULTIPLY_ADDS = {
    (backbone, int(size)): float(adds)
    for backbone, _, *by_size in _ROWS
    for size, adds in (text.split(":") for text in by_size)
}
