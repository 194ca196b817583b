"""Parameters and multiply-adds of the networks in the catalogue."""

from tl.models import registry
from tl.models.backbone import FINAL
from tl.weights.spec import WeightSpec

# Network, then for each size of its images in pixels the parameters and the billions of
# multiply-adds for one image, both without the head. `/1x1` strides as Keras' ResNets do. Counted
# by `python -m tests.make_costs`: products of convolutions and matrices.
_COSTS = """
resnet18 160:11176512/0.93 224:11176512/1.81
resnet34 160:21284672/1.87 224:21284672/3.66
resnet50 160:23508032/2.09 176:23508032/2.61 224:23508032/4.09
resnet50/1x1 224:23508032/3.86
resnet101 160:42500160/3.98 176:42500160/4.90 224:42500160/7.80
resnet101/1x1 224:42500160/7.57
resnet152 160:58143808/5.87 176:58143808/7.19 224:58143808/11.51
resnet152/1x1 224:58143808/11.28
resnext50_32x4d 160:22979904/2.16 176:22979904/2.69 224:22979904/4.23
resnext101_32x4d 224:42128704/7.97
resnext101_32x8d 176:86742336/10.28 224:86742336/16.41
resnext101_64x4d 224:81406272/15.46
wide_resnet50_2 176:66834240/7.27 224:66834240/11.40
wide_resnet101_2 176:124837696/14.28 224:124837696/22.75
resnet18d 224:11195744/2.05
resnet34d 224:21303904/3.90
resnet50d 160:23527264/2.21 224:23527264/4.33
resnet101d 224:42519392/8.04 256:42519392/10.50
resnet152d 224:58163040/11.75 256:58163040/15.35
resnetv2_50 224:23500352/4.09
resnetv2_101 224:42492480/7.80
resnetv2_50x1_bit 224:23500352/4.09 448:23500352/16.35
resnetv2_101x1_bit 224:42492480/7.80 448:42492480/31.20
efficientnet_lite0 224:3371008/0.38
efficientnet_lite1 240:4135680/0.60
efficientnet_lite2 260:4811072/0.86
efficientnet_lite3 300:6916096/1.61
efficientnet_lite4 380:11725568/3.94
vit_tiny_patch16 224:5524416/1.25 384:5597376/4.68
vit_small_patch16 224:21665664/4.60 384:21811584/15.49
vit_base_patch16 224:85798656/17.56 384:86090496/55.48
vit_small_patch32 224:22493952/1.14 384:22530432/3.44
vit_base_patch32 224:87455232/4.41 384:87528192/13.04
vit_small_patch8 224:21670272/22.41
vit_base_patch8 224:85807872/78.15
vit_small_patch14 518:22056192/46.70
vit_base_patch14 518:86579712/151.57
vit_small_patch14_reg4 518:22057344/46.88
vit_base_patch14_reg4 518:86582016/152.12
vit_base_patch16_clip 224:85799424/17.56 384:86091264/55.48
vit_base_patch32_clip 224:87456000/4.41 256:87467520/5.75 384:87528960/13.04 448:87568896/17.91
vit_base_patch16_siglip 224:92884224/17.83 256:92930304/23.56 384:93176064/56.40 512:93520128/108.73
vit_small_patch16_dinov3 256:21586944/6.25
vit_small_plus_patch16_dinov3 256:28683264/8.09
vit_base_patch16_dinov3 256:85641216/23.57
convnext_tiny 224:27820128/4.45 384:27820128/13.09
convnext_small 224:49454688/8.68 384:49454688/25.52
convnext_base 224:87566464/15.35 384:87566464/45.12
convnextv2_tiny 224:27866496/4.45 384:27866496/13.09
convnextv2_base 224:87692800/15.35 384:87692800/45.12
"""


def parameters(spec: WeightSpec) -> int:
    """Returns the number of parameters of a public set, with its head."""
    head = (registry.get(spec.backbone).outputs[FINAL].width + 1) * spec.num_classes
    return int(_of(spec)[0]) + head


def multiply_adds(spec: WeightSpec) -> float:
    """Returns the multiply-adds for an image at a public set's size, in billions, without a head.

    They are half the FLOPs.
    """
    return float(_of(spec)[1])


def row_of(spec: WeightSpec) -> str:
    """Returns the name of a set's row: its network, and where that strides if not as usual."""
    return spec.backbone + ("/1x1" if spec.model_args.get("stride_in") == "1x1" else "")


def _of(spec: WeightSpec) -> list[str]:
    return _BY_SIZE[row_of(spec), str(spec.preprocessing.size)]


_BY_SIZE = {
    (row, size): counts.split("/")
    for row, *by_size in map(str.split, _COSTS.strip().splitlines())
    for size, counts in (text.split(":") for text in by_size)
}
