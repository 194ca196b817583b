import json
import pathlib

import jax
import numpy as np
import pytest

from tl.errors import UserError
from tl.models import registry
from tl.weights import convert, identify

PATH = pathlib.Path("x")


def empty(backbone, scheme):
    """Returns tensors of a network's names and shapes, which need no memory."""
    shapes = convert.source_shapes(convert.shapes(registry.build(backbone)), scheme)
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def test_keras_files_tell_what_they_are():
    tensors = empty("resnet50", "keras")
    spec, _ = identify.identify(PATH, None, tensors)
    assert spec.model_args["stride_in"] == "1x1" and spec.preprocessing.channels == "BGR"
    assert spec.backbone == "resnet50" and spec.name == "x"
    with pytest.raises(UserError, match=r"Keras weights.*such as resnet50\.keras"):
        identify.identify(PATH, None, tensors, like="resnet50.tv1")


def test_timms_efficientnet_lite_may_be_of_either_padding():
    tensors = empty("efficientnet_lite0", "timm_efficientnet_lite")
    with pytest.raises(UserError, match=r"weights_like=efficientnet_lite0\.timm` .*lite0\.ra, "):
        identify.identify(PATH, None, tensors)


# Those of which others have the same names, and these; to trace all there are takes seconds.
ALIKE = ("resnet50", "resnext50_32x4d", "wide_resnet50_2", "resnetv2_50x1_bit")
ALIKE += ("vit_base_patch16_clip",)
OTHERS = ("resnet18", "resnetv2_50", "vit_base_patch16", "vit_base_patch32_clip")


@pytest.mark.parametrize("known", ["alike", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.parametrize("backbone", ALIKE)
def test_shapes_and_statistics_tell_networks_with_the_same_names(backbone, known, monkeypatch):
    if known == "alike":
        few = {name: registry.get(name) for name in registry.names() if name in ALIKE + OTHERS}
        monkeypatch.setattr(registry, "_BACKBONES", few)
    scheme = registry.get(backbone).schemes[0]
    tensors = empty(backbone, scheme)
    assert identify._backbone_of(tensors, scheme) == backbone
    # As many weights in other groups: a ResNeXt of 8 groups of half the channels.
    if backbone == "resnext50_32x4d":
        for name, value in tensors.items():
            if name.endswith("conv2.weight"):
                features, channels = value.shape[:2]
                tensors[name] = np.broadcast_to(value[:1, :1], (features // 2, channels * 2, 3, 3))
        assert identify._backbone_of(tensors, scheme) == "resnet50"  # by its names


@pytest.fixture(scope="module")
def vit_tensors():
    """Tensors of a ViT-Ti/16 with timm's names."""
    return zeros("vit_tiny_patch16", "timm_vit", 2, num_classes=3)


def zeros(backbone, scheme, grid, num_classes=0):
    """Returns tensors of zeros of a vision transformer for images of `grid` patches a side."""
    module = registry.build(backbone, num_classes=num_classes, grid=grid)
    shapes = convert.shapes(module, grid * registry.get(backbone).multiple)
    return convert.from_variables(
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes), scheme
    )


@pytest.mark.parametrize(
    ("token", "network"),
    [
        ("dist_token", "a distilled DeiT"),
    ],
)
def test_vision_transformers_with_more_tokens_are_no_plain_ones(vit_tensors, token, network):
    more = {**vit_tensors, token: np.ones((1, 1, 192), np.float32)}
    with pytest.raises(UserError, match=f"it holds {network}.*; expected a ResNet"):
        identify.identify(PATH, None, more, like="vit_tiny_patch16.deit")


def test_heads_that_no_tensor_tells(vit_tensors):
    named = {f"module.base_encoder.{k}": v for k, v in vit_tensors.items()}
    with pytest.raises(UserError, match=r"it holds a vision transformer of MoCo v3, whose heads"):
        identify.identify(
            PATH, None, named, like="vit_tiny_patch16.deit", prefix="module.base_encoder."
        )


def test_the_file_of_dinov2s_authors_resizes_positions_as_their_code():
    tensors = zeros("vit_small_patch14", "timm_vit", 2)
    for extra, expected in (({}, {}), ({"mask_token": np.ones((1, 384), np.float32)}, "offset")):
        spec, _ = identify.identify(
            PATH, None, {**tensors, **extra}, like="vit_small_patch14.dinov2"
        )
        assert spec.model_args.get("resize", {}) == expected


def test_a_folder_says_its_network_although_a_set_gives_the_preprocessing(tmp_path):
    tensors = zeros("vit_small_patch16", "huggingface_vit", 2)
    like = "vit_small_patch16.dino"
    config = {
        "model_type": "vit",
        "hidden_size": 384,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "layer_norm_eps": 1e-3,
    }

    def identified(**more):
        (tmp_path / "config.json").write_text(json.dumps({**config, **more}))
        (tmp_path / "model.safetensors").touch()
        return identify.identify(tmp_path, None, tensors, like=like)[0]

    spec = identified()
    assert spec.model_args == {"norm_epsilon": 1e-3, "resize": "plain"}
    assert spec.preprocessing == identify.catalog.get(like).preprocessing
    with pytest.raises(UserError, match=r"it holds a vision transformer of .*heads 12"):
        identified(num_attention_heads=12)
    message = r"config\.json says vit_tiny_patch16, and `weights_like=vit_small_patch16\.dino` is"
    with pytest.raises(UserError, match=message):
        identified(hidden_size=192, num_attention_heads=3, intermediate_size=768)


def test_a_set_of_another_network_is_refused(vit_tensors):
    message = r"it holds a vit_tiny_patch16, and `weights_like=resnet50\.tv1` is a resnet50"
    with pytest.raises(UserError, match=message):
        identify.identify(PATH, None, vit_tensors, like="resnet50.tv1")


def test_every_weight_file_in_a_folder_is_of_its_network(tmp_path):
    """timm writes both of them."""
    for name in ("model.safetensors", "pytorch_model.bin", "other.pth"):
        (tmp_path / name).touch()
    config = {"architecture": "resnetaa50", "pretrained_cfg": {"input_size": [3, 224, 224]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = empty("resnet50", "torchvision")
    for path in (tmp_path, *tmp_path.glob("*.*")):
        with pytest.raises(UserError, match=r"config\.json says resnetaa50"):
            identify.identify(path, None, tensors, like="resnet50.tv1")


def test_a_folders_own_head_and_licence_count_although_a_set_is_named(tmp_path):
    config = {
        "architecture": "vit_small_patch16_224",
        "pretrained_cfg": {"license": "cc-by-nc-4.0"},
        "tl": {"link": "sigmoid"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = zeros("vit_small_patch16", "timm_vit", 2, num_classes=3)
    spec, _ = identify.identify(tmp_path, None, tensors, like="vit_small_patch16.dino")
    assert (spec.link, spec.licence) == ("sigmoid", "CC-BY-NC-4.0")
    for damaged in ({"tl": {"link": "garbage"}}, {"pretrained_cfg": "x"}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **damaged}))
        with pytest.raises(UserError, match=r"its config\.json .*is damaged"):
            identify.identify(tmp_path, None, tensors, like="vit_small_patch16.dino")


def test_a_damaged_config_is_said_although_a_set_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "resnet", "depths": 5}')
    (tmp_path / "model.safetensors").touch()
    tensors = zeros("vit_small_patch16", "huggingface_vit", 2)
    with pytest.raises(UserError, match=r"its config\.json .*is damaged"):
        identify.identify(tmp_path, None, tensors, like="vit_small_patch16.dino")
