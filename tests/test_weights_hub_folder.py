import json
import math

import pytest

from tl.errors import UserError
from tl.weights import hub_folder
from tl.weights.spec import Preprocessing

RESNET18 = {
    "model_type": "resnet",
    "depths": [2, 2, 2, 2],
    "hidden_sizes": [64, 128, 256, 512],
    "layer_type": "basic",
}
# That of microsoft/resnet-50.
CONVNEXT = {
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": 224,
}
TIMM = {
    "architecture": "resnet18",
    "global_pool": "avg",
    "pretrained_cfg": {
        "input_size": [3, 176, 176],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.25, 0.5],
        "license": "apache-2.0",
    },
}


def write(folder, config, processor=None):
    (folder / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def described(folder, config, processor=None, scheme="huggingface"):
    write(folder, config, processor)
    return hub_folder.describe(folder, "x", scheme)


def timm(folder, scheme="torchvision", **fields):
    cfg = TIMM["pretrained_cfg"]
    changed = {k: v for k, v in fields.items() if k in cfg or k == "crop_mode"}
    top = {k: v for k, v in fields.items() if k not in changed}
    return described(folder, {**TIMM, **top, "pretrained_cfg": {**cfg, **changed}}, scheme=scheme)


def test_the_weight_files_of_a_folder(tmp_path):
    assert hub_folder.weight_files(tmp_path) == []
    bins = {"a": "pytorch_model-2.bin", "b": "pytorch_model-1.bin", "c": "pytorch_model-1.bin"}
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": bins}))
    assert [path.name for path in hub_folder.weight_files(tmp_path)] == [
        "pytorch_model-1.bin",
        "pytorch_model-2.bin",
    ]
    (tmp_path / "pytorch_model.bin").touch()
    assert [path.name for path in hub_folder.weight_files(tmp_path)] == ["pytorch_model.bin"]
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "m.safetensors"}}')
    assert hub_folder.weight_files(tmp_path) == [tmp_path / "m.safetensors"]
    (tmp_path / "model.safetensors").touch()
    assert hub_folder.weight_files(tmp_path) == [tmp_path / "model.safetensors"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": {"a": "../secret"}}',
        '{"weight_map": 1}',
    ],
)
def test_a_damaged_index(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=r"model\.safetensors\.index\.json is damaged"):
        hub_folder.weight_files(tmp_path)


def test_a_folder_of_transformers(tmp_path):
    spec = described(tmp_path, RESNET18, CONVNEXT)
    assert spec.preprocessing == Preprocessing(224, 0.875, "resize_crop", "bicubic")
    assert (spec.backbone, spec.scheme, spec.name) == ("resnet18", "huggingface", "x")
    assert (spec.model_args, spec.link, spec.classes) == ({}, "softmax", ())


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
        ({"model_type": "dinov2", "use_swiglu_ffn": True}, "patch 14, use_swiglu_ffn=True; exp"),
        ({"model_type": "vit", "intermediate_size": 9}, "patch 16, intermediate_size=9; expected"),
        ({"depths": [2, 2, 2, 3]}, r"ResNet of basic blocks with depths \(2, 2, 2, 3\), widths"),
        ({"hidden_sizes": [8, 16, 32, 64]}, r"widths \[8, 16, 32, 64\]; expected ResNet-18, 34"),
        ({"embedding_size": 32}, "embedding_size=32; expected ResNet-18"),
        ({"num_channels": 1}, "num_channels=1; expected"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'; expected"),
        ({"downsample_in_first_stage": True}, "downsample_in_first_stage=True; expected"),
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
    assert spec.model_args == {"norm_epsilon": 1e-6, "resize": "plain"}


def test_vision_transformers_of_timm(tmp_path):
    for architecture, backbone in (
        ("vit_small_patch16_384", "vit_small_patch16"),
        ("deit_tiny_patch16_224", "vit_tiny_patch16"),
        ("vit_base_patch14_reg4_dinov2", "vit_base_patch14_reg4"),
    ):
        sizes = {"img_size": 224, "dynamic_img_size": True}
        fields = {"architecture": architecture, "global_pool": "token", "model_args": sizes}
        spec = timm(tmp_path, "timm_vit", **fields)
        assert (spec.backbone, spec.model_args) == (backbone, {})
        with pytest.raises(UserError, match=f"a {architecture} with global_pool='avg'; expected"):
            timm(tmp_path, "timm_vit", **{**fields, "global_pool": "avg"})
    assert "vit_tiny_patch8_224" not in hub_folder._TIMM_NETWORKS


def test_names_of_timm():
    assert hub_folder.timm_name("resnet50", {"stride_in": "1x1"}) == (
        "resnet50", {"stride_in": "1x1"},
    )  # fmt: skip
    assert hub_folder.timm_name("efficientnet_lite3", {}) == ("tf_efficientnet_lite3", {})
    own = hub_folder.timm_name("efficientnet_lite0", hub_folder.TIMM_OWN_LITE)
    assert own == ("efficientnet_lite0", {})
    assert hub_folder.timm_name("vit_small_patch32", {}) == ("vit_small_patch32_224", {})
    assert hub_folder.timm_name("vit_base_patch14", {}) == ("vit_base_patch14_dinov2", {})
    assert hub_folder.timm_name("resnet_tiny", {"a": 1}) == ("resnet_tiny", {"a": 1})


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
    processor |= {"size": {"shortest_edge": 224}, "crop_size": 224}
    del processor["resample"]
    if expected:
        assert described(tmp_path, RESNET18, processor).preprocessing.interpolation == expected
    else:
        with pytest.raises(UserError, match="resample=None, which is not supported here"):
            described(tmp_path, RESNET18, processor)


def test_the_resized_side_is_exact():
    for shorter in range(1, 600):
        for crop in {1, shorter // 3 + 1, shorter}:
            assert math.floor(crop / hub_folder._share(crop, shorter)) == shorter


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


def test_several_labels_for_an_image(tmp_path):
    config = {**RESNET18, "problem_type": "multi_label_classification"}
    assert described(tmp_path, config, CONVNEXT).link == "sigmoid"


def test_a_folder_of_timm(tmp_path):
    spec = timm(tmp_path)
    assert spec.preprocessing == Preprocessing(
        176, 0.9, "resize_crop", "bicubic", (127.5,) * 3, (127.5, 63.75, 127.5)
    )
    assert (spec.backbone, spec.licence) == ("resnet18", "")
    assert timm(tmp_path, license="cc-by-nc-4.0").non_commercial
    assert timm(tmp_path, crop_mode="squash", crop_pct=1).preprocessing.geometry == "whole"
    lite = timm(tmp_path, architecture="tf_efficientnet_lite0", scheme="timm_efficientnet_lite")
    assert lite.backbone == "efficientnet_lite0"
    arguments = {"num_classes": 3, "in_chans": 3, "global_pool": "avg", "drop_rate": 0.2}
    assert timm(tmp_path, model_args=arguments).backbone == "resnet18"


@pytest.mark.parametrize(
    ("architecture", "scheme"),
    [
        ("resnext50_32x4d", "torchvision"),
        ("wide_resnet101_2", "torchvision"),
        ("resnet152d", "timm_resnet_d"),
        ("resnetv2_50x1_bit", "timm_resnet_v2"),
    ],
)
def test_timms_relatives_of_the_resnet(tmp_path, architecture, scheme):
    spec = timm(tmp_path, architecture=architecture, scheme=scheme)
    assert (spec.backbone, spec.scheme) == (architecture, scheme)


@pytest.mark.parametrize(
    "name", ["resnetaa50", "resnetaa50d", "resnetaa101d", "resnetblur50", "resnetblur101d"]
)
def test_a_folder_whose_tensors_are_those_of_another_network(tmp_path, name):
    write(tmp_path, {**TIMM, "architecture": name})
    with pytest.raises(UserError, match=f"config.json says {name}, which has the tensors of ano"):
        hub_folder.refuse(tmp_path)


@pytest.mark.parametrize("config", [TIMM, RESNET18, {"weights": "efficientnet_lite0"}, []])
def test_other_folders_are_not_refused(tmp_path, config):
    write(tmp_path, config)
    hub_folder.refuse(tmp_path)


def test_timms_older_layout(tmp_path):
    config = {"architecture": "resnet18", **TIMM["pretrained_cfg"], "labels": ["a", "b"]}
    spec = described(tmp_path, config, scheme="torchvision")
    assert spec.preprocessing.size == 176
    assert hub_folder.class_names(tmp_path) == ("a", "b")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"architecture": "resnetblur50"},
            "it holds timm's resnetblur50; expected one of resnet18",
        ),
        (
            {"architecture": "seresnet50"},
            "it holds timm's seresnet50; expected one of resnet18",
        ),
        ({"model_args": {"output_stride": 8}}, "a resnet18 with output_stride=8"),
        ({"model_args": {"act_layer": "silu"}}, "a resnet18 with act_layer='silu'"),
        ({"global_pool": "max"}, "a resnet18 with global_pool='max'"),
        ({"input_size": [1, 224, 224]}, r"images of 1 x 224 x 224.*Name the set .*`weights_like`"),
        ({"input_size": [3, 224, 192]}, "images of 3 x 224 x 192"),
        ({"interpolation": "random"}, "random"),
        ({"crop_mode": "border"}, "crop_mode 'border'"),
        ({"crop_mode": "squash"}, "crop_mode 'squash'"),
        ({"scheme": "keras", "architecture": "tf_efficientnet_lite0"}, "have keras names"),
    ],
)
def test_other_folders_of_timm(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        timm(tmp_path, **fields)


def test_folders_that_say_nothing(tmp_path):
    assert hub_folder.describe(tmp_path, "x", "torchvision") is None
    assert described(tmp_path, {"weights": "efficientnet_lite0"}) is None  # of a run here
    assert described(tmp_path, RESNET18) is None  # no preprocessing
    assert described(tmp_path, []) is None


def test_a_damaged_config_is_not_an_absent_one(tmp_path):
    (tmp_path / "config.json").write_text('{"id2label": ')
    message = r"^its config\.json is damaged \(Expecting value.*\); restore it, or remove it$"
    with pytest.raises(UserError, match=message):
        hub_folder.describe(tmp_path, "x", "torchvision")
    with pytest.raises(UserError, match=message):
        hub_folder.class_names(tmp_path)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"id2label": {"1": "dog", "0": "cat"}}, ("cat", "dog")),
        ({"label_names": ["cat", "dog"]}, ("cat", "dog")),
        ({"pretrained_cfg": {"label_names": ["cat", "dog"]}}, ("cat", "dog")),
        ({"label_names": {"0": "cat", "1": "dog"}}, ("cat", "dog")),
        ({"id2label": {"0": "crane", "1": "x", "2": "crane"}}, ("crane (0)", "x", "crane (2)")),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, ()),
        ({"id2label": {"0": "cat", "2": "dog"}}, ()),
        ({"id2label": 3}, ()),
        ({}, ()),
    ],
)
def test_class_names(tmp_path, fields, names):
    write(tmp_path, {**RESNET18, **fields})
    assert hub_folder.class_names(tmp_path) == names
