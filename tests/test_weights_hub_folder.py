import json

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


def test_timms_siglip_pools_by_attention(tmp_path):
    fields = {"architecture": "vit_base_patch16_siglip_384", "global_pool": "map"}
    assert timm(tmp_path, "timm_vit", **fields).backbone == "vit_base_patch16_siglip"
    with pytest.raises(UserError, match="a vit_base_patch16_siglip_384 with global_pool='token'"):
        timm(tmp_path, "timm_vit", **{**fields, "global_pool": "token"})
    fields["architecture"] = "vit_base_patch16_siglip_gap_224"
    with pytest.raises(UserError, match=r"timm's vit_base_patch16_siglip_gap_224, which is not kn"):
        timm(tmp_path, "timm_vit", **fields)


def test_timms_dinov3(tmp_path):
    def found(architecture, **fields):
        fields = {"global_pool": "avg", "num_classes": 0, **fields}
        spec = timm(tmp_path, "timm_dinov3", architecture=architecture, **fields)
        return spec.backbone, spec.model_args

    assert found("vit_small_plus_patch16_dinov3") == ("vit_small_plus_patch16_dinov3", {})
    biased = ("vit_base_patch16_dinov3", {"qkv_bias": True})
    assert found("vit_base_patch16_dinov3_qkvb") == biased
    assert found("vit_base_patch16_dinov3_qkvb", num_classes=3, global_pool="token") == biased
    with pytest.raises(UserError, match="a vit_base_patch16_dinov3 with global_pool='avg'; expec"):
        found("vit_base_patch16_dinov3", num_classes=3)
    with pytest.raises(UserError, match=r"timm's vit_large_patch16_dinov3, which is not known"):
        found("vit_large_patch16_dinov3")


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
            "it holds timm's resnetblur50, which is not known here; the near",
        ),
        (
            {"architecture": "seresnet50"},
            "it holds timm's seresnet50, which is not known here; the near",
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
