import math

import pytest

from tests.test_weights_hub_folder import CONVNEXT, RESNET18, described
from tl.errors import UserError
from tl.weights import transformers_config
from tl.weights.spec import Preprocessing


def test_depths_and_blocks_tell_the_network(tmp_path):
    for backbone, depths in (("resnet50", [3, 4, 6, 3]), ("resnet101", [3, 4, 23, 3])):
        config = {"model_type": "resnet", "depths": depths}  # the others are transformers' own
        assert described(tmp_path, config, CONVNEXT).backbone == backbone
    config = {**RESNET18, "depths": [3, 4, 6, 3]}
    assert described(tmp_path, config, CONVNEXT).backbone == "resnet34"
    spec = described(tmp_path, {"model_type": "resnet", "downsample_in_bottleneck": True}, CONVNEXT)
    assert spec.model_args == {"stride_in": "1x1"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "beit"}, "a network of the type 'beit'; expected resnet, vit, dinov2"),
        (
            {"model_type": "vit", "hidden_size": 100},
            "transformer of width 100, depth 12, heads 12, patch 16; expected one of vit_",
        ),
        ({"model_type": "vit", "hidden_act": "relu"}, "patch 16, hidden_act='relu'; expected one"),
        (
            {"model_type": "convnext", "depths": [3, 3, 27, 3], "hidden_sizes": [192] * 4},
            r"ConvNeXt with depths \(3, 3, 27, 3\), widths \(192, 192, 192, 192\); expected one ",
        ),
        (
            {"model_type": "convnextv2", "depths": None, "hidden_sizes": None, "patch_size": 2},
            r"a ConvNeXt with depths .*, patch_size=2; expected one of convnextv2_tiny, c",
        ),
        ({"model_type": "dinov2", "use_swiglu_ffn": True}, "patch 14, use_swiglu_ffn=True; exp"),
        ({"model_type": "vit", "intermediate_size": 9}, "patch 16, intermediate_size=9; expected"),
        ({"depths": [2, 2, 2, 3]}, r"ResNet of basic blocks with depths \(2, 2, 2, 3\), widths"),
        ({"hidden_sizes": [8, 16, 32, 64]}, r"widths \[8, 16, 32, 64\]; expected ResNet-18, 34"),
        ({"embedding_size": 32}, "embedding_size=32; expected ResNet-18"),
        ({"num_channels": 1}, "num_channels=1; expected"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'; expected"),
        ({"downsample_in_first_stage": True}, "downsample_in_first_stage=True; expected"),
        (
            {"model_type": "vit", "layer_norm_eps": -1},
            r"is damaged \(ValueError\('layer_norm_eps -1",
        ),
        ({"model_type": "vit", "layer_norm_eps": None}, "is damaged"),
        ({"depths": 4}, r"config\.json or preprocessor_config\.json is damaged"),
    ],
)
def test_other_networks_of_transformers(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        described(tmp_path, {**RESNET18, **fields}, CONVNEXT)


VIT = {"image_processor_type": "ViTImageProcessor", "size": 224}
VIT |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


def test_vision_transformers_of_transformers(tmp_path):
    spec = described(tmp_path, {"model_type": "vit"}, VIT, "huggingface_vit")
    assert spec.backbone == "vit_base_patch16"
    assert spec.model_args == {"norm_epsilon": 1e-12, "resize": "plain"}
    assert spec.preprocessing == Preprocessing(
        224, 1.0, "whole", "bilinear", (127.5,) * 3, (127.5,) * 3
    )
    small = {"model_type": "dinov2", "hidden_size": 384, "num_attention_heads": 6}
    spec = described(tmp_path, small, VIT, "huggingface_dinov2")
    assert spec.backbone == "vit_small_patch14"
    assert spec.model_args == {"resize": "plain"}
    registers = {**small, "model_type": "dinov2_with_registers", "patch_size": 14}
    scheme = "huggingface_dinov2_with_registers"
    spec = described(tmp_path, registers, VIT, scheme)
    assert (spec.backbone, spec.model_args) == ("vit_small_patch14_reg4", {})
    with pytest.raises(UserError, match="heads 6, patch 14, registers 8; expected one of vit_sma"):
        described(tmp_path, {**registers, "num_register_tokens": 8}, VIT, scheme)


def test_clips_of_transformers(tmp_path):
    def found(config):
        spec = described(tmp_path, config, VIT, "huggingface_clip")
        return spec.backbone, spec.model_args

    args = {"activation": "quick_gelu", "resize": "plain"}
    whole = {"model_type": "clip", "text_config": {"hidden_size": 512}, "hidden_size": 1}
    assert found({**whole, "vision_config": {}}) == ("vit_base_patch32_clip", args)
    of_16 = {"patch_size": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-6}
    args = {"resize": "plain", "norm_epsilon": 1e-6}
    assert found({**whole, "vision_config": of_16}) == ("vit_base_patch16_clip", args)
    alone = {"model_type": "clip_vision_model", **of_16}
    assert found(alone) == ("vit_base_patch16_clip", args)
    with pytest.raises(UserError, match="holds a vit_base_patch16_clip with hidden_act='relu'; ex"):
        found({**alone, "hidden_act": "relu"})
    with pytest.raises(UserError, match="patch 14; expected one of vit_base_patch16_clip, vit_b"):
        found({**alone, "patch_size": 14})


def test_siglips_of_transformers(tmp_path):
    def found(config):
        spec = described(tmp_path, config, VIT, "huggingface_siglip")
        return spec.backbone, spec.model_args

    args = {"activation": "gelu_tanh", "resize": "plain"}
    for config in (
        {"model_type": "siglip", "vision_config": {}},
        {"model_type": "siglip_vision_model"},
    ):
        assert found(config) == ("vit_base_patch16_siglip", args)
    config["vision_use_head"] = False
    with pytest.raises(UserError, match="vision_use_head=False; expected one of vit_base_patch16_"):
        found(config)
    with pytest.raises(UserError, match="a network of the type 'siglip2'; expected resnet, "):
        found({**config, "model_type": "siglip2"})


def test_dinov3s_of_transformers(tmp_path):
    def found(**fields):
        config = {"model_type": "dinov3_vit", "num_register_tokens": 4, **fields}
        processor = {**VIT, "image_processor_type": "DINOv3ViTImageProcessorFast"}
        return described(tmp_path, config, processor, "huggingface_dinov3_vit")

    spec = found(rope_theta=100.0)
    assert (spec.backbone, spec.model_args) == ("vit_small_patch16_dinov3", {})
    assert spec.preprocessing.geometry == "whole"
    assert spec.preprocessing.interpolation == "bilinear"
    plus = {"use_gated_mlp": True, "hidden_act": "silu"}
    assert found(**plus).backbone == "vit_small_plus_patch16_dinov3"
    base = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    spec = found(**base, layer_norm_eps=1e-6)
    assert (spec.backbone, spec.model_args) == ("vit_base_patch16_dinov3", {"norm_epsilon": 1e-6})
    for wrong, message in (
        (
            {"rope_theta": 10},
            "gated False, rope_theta=10; expected one of vit_small_patch16_dinov3",
        ),
        ({"key_bias": True}, "key_bias=True; expected"),
        ({"num_hidden_layers": 24}, "depth 24, heads 6, patch 16, registers 4, gated False; exp"),
    ):
        with pytest.raises(UserError, match=message):
            found(**wrong)


def test_convnexts_of_transformers(tmp_path):
    for kind in ("convnext", "convnextv2"):
        spec = described(tmp_path, {"model_type": kind}, CONVNEXT, f"huggingface_{kind}")
        assert spec.backbone == f"{kind}_tiny"
        assert spec.model_args == {"pooled_epsilon": 1e-12}
        sizes = {"depths": [3, 3, 27, 3], "hidden_sizes": [128, 256, 512, 1024]}
        config = {"model_type": kind, **sizes, "layer_norm_eps": 1e-6}
        spec = described(tmp_path, config, CONVNEXT, f"huggingface_{kind}")
        assert (spec.backbone, spec.model_args) == (f"{kind}_base", {})


# (fields of the processor, size, crop_pct, geometry).
PROCESSORS = [
    ({"size": {"shortest_edge": 224}}, 224, 0.875, "resize_crop"),
    ({"size": 224, "crop_pct": None}, 224, 0.875, "resize_crop"),
    ({"size": 224, "crop_pct": 0.95}, 224, 0.95, "resize_crop"),
    ({"size": {"shortest_edge": 384}}, 384, 1.0, "whole"),
    (
        {"size": 224, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
        224,
        0.875,
        "resize_crop",
    ),
    (
        {"image_processor_type": "ViTImageProcessor", "size": {"height": 96, "width": 96}},
        96,
        1.0,
        "whole",
    ),
    ({"image_processor_type": "ViTImageProcessorFast", "size": 96}, 96, 1.0, "whole"),
    (
        {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}}
        | {"crop_size": {"height": 224, "width": 224}},
        224,
        0.875,
        "resize_crop",
    ),
    (
        {"image_processor_type": "CLIPFeatureExtractor", "size": 232, "crop_size": 224},
        224,
        224 / 232,
        "resize_crop",
    ),
]


@pytest.mark.parametrize(("fields", "size", "crop_pct", "geometry"), PROCESSORS)
def test_processors(tmp_path, fields, size, crop_pct, geometry):
    found = described(tmp_path, RESNET18, {**CONVNEXT, **fields}).preprocessing
    assert (found.size, found.geometry) == (size, geometry)
    assert found.crop_pct == pytest.approx(crop_pct)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("ViT", "bilinear"), ("Bit", "bicubic"), ("CLIP", "bicubic"), ("ConvNext", None)],
)
def test_interpolation_that_is_not_given_is_that_of_the_processor(tmp_path, kind, expected):
    processor = {**CONVNEXT, "image_processor_type": f"{kind}ImageProcessor"}
    processor |= {"size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": True}
    del processor["resample"]
    if expected:
        assert described(tmp_path, RESNET18, processor).preprocessing.interpolation == expected
    else:
        with pytest.raises(UserError, match="resample=None, which is not supported here"):
            described(tmp_path, RESNET18, processor)


def test_the_resized_side_is_exact():
    for shorter in range(1, 600):
        for crop in {1, shorter // 3 + 1, shorter}:
            assert math.floor(crop / transformers_config._share(crop, shorter)) == shorter


@pytest.mark.parametrize(
    ("fields", "mean", "std"),
    [
        ({"rescale_factor": 1 / 127.5}, (61.8375, 58.14, 51.765), (29.1975, 28.56, 28.6875)),
        ({"do_rescale": False}, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ({"do_normalize": False}, (0, 0, 0), (255, 255, 255)),
        ({"do_normalize": False, "do_rescale": False}, (0, 0, 0), (1, 1, 1)),
        ({"image_mean": 0.5, "image_std": 0.5}, (127.5,) * 3, (127.5,) * 3),
    ],
)
def test_normalisation(tmp_path, fields, mean, std):
    found = described(tmp_path, RESNET18, {**CONVNEXT, **fields}).preprocessing
    assert found.mean == pytest.approx(mean) and found.std == pytest.approx(std)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_processor_type": "LevitImageProcessor"}, "asks for LevitImageProcessor with size"),
        ({"size": {"height": 96, "width": 64}}, r"ConvNextFeatureExtractor with size \{'height'"),
        ({"crop_size": 200}, "a crop of 200, which is not supported here; name .*`weights_like`"),
        ({"do_resize": False}, "do_resize=False"),
        ({"resample": 4}, "resample=4"),
        ({"resample": None}, "resample=None"),
        (
            {"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 9}},
            "crop of not",
        ),
        ({"image_mean": [1, 2]}, "damaged"),
        ({"rescale_factor": 0}, "damaged"),
    ],
)
def test_processors_that_are_not_supported(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        described(tmp_path, RESNET18, {**CONVNEXT, **fields})


def test_steps_of_a_processor_that_are_not_done_here(tmp_path):
    plain = transformers_config.preprocessing(VIT)
    # Without `do_center_crop` transformers' processor of ViT does not crop.
    assert transformers_config.preprocessing({**VIT, "crop_size": 128}) == plain
    for step in ("do_pad", "do_grayscale"):
        with pytest.raises(UserError, match=f"asks for {step}, which is not supported here"):
            transformers_config.preprocessing({**VIT, step: True})
    unnamed = {k: v for k, v in VIT.items() if k != "image_processor_type"}
    with pytest.raises(UserError, match="asks for a processor without image_processor_type with"):
        transformers_config.preprocessing(unnamed)
    with pytest.raises(UserError, match=r"is damaged .*a std of"):
        described(
            tmp_path, {"model_type": "vit"}, {**VIT, "image_std": [0, 0, 0]}, "huggingface_vit"
        )
