import jax
import numpy as np
import pytest

from tests.networks import random_variables
from tl import tree
from tl.errors import UserError
from tl.models.vit import VisionTransformer
from tl.weights import convert, naming

TABLE = [
    ("embed/patch", "kernel", "patch_embed.proj.weight", "conv_proj.weight",
     "vit.embeddings.patch_embeddings.projection.weight",
     "dinov2.embeddings.patch_embeddings.projection.weight"),
    ("embed", "cls", "cls_token", "class_token", "vit.embeddings.cls_token",
     "dinov2.embeddings.cls_token"),
    ("embed", "positions", "pos_embed", "encoder.pos_embedding",
     "vit.embeddings.position_embeddings", "dinov2.embeddings.position_embeddings"),
    ("block1/norm1", "scale", "blocks.0.norm1.weight",
     "encoder.layers.encoder_layer_0.ln_1.weight", "vit.encoder.layer.0.layernorm_before.weight",
     "dinov2.encoder.layer.0.norm1.weight"),
    ("block12/attn/qkv", "bias", "blocks.11.attn.qkv.bias",
     "encoder.layers.encoder_layer_11.self_attention.in_proj_bias",
     "vit.encoder.layer.11.attention.attention.{query,key,value}.bias",
     "dinov2.encoder.layer.11.attention.attention.{query,key,value}.bias"),
    ("block2/attn/proj", "kernel", "blocks.1.attn.proj.weight",
     "encoder.layers.encoder_layer_1.self_attention.out_proj.weight",
     "vit.encoder.layer.1.attention.output.dense.weight",
     "dinov2.encoder.layer.1.attention.output.dense.weight"),
    ("block2/mlp/fc1", "kernel", "blocks.1.mlp.fc1.weight",
     "encoder.layers.encoder_layer_1.mlp.0.weight", "vit.encoder.layer.1.intermediate.dense.weight",
     "dinov2.encoder.layer.1.mlp.fc1.weight"),
    ("block2/mlp/fc2", "bias", "blocks.1.mlp.fc2.bias",
     "encoder.layers.encoder_layer_1.mlp.3.bias", "vit.encoder.layer.1.output.dense.bias",
     "dinov2.encoder.layer.1.mlp.fc2.bias"),
    ("pooled/norm", "bias", "norm.bias", "encoder.ln.bias", "vit.layernorm.bias",
     "dinov2.layernorm.bias"),
    ("head", "kernel", "head.weight", "heads.head.weight", "classifier.weight",
     "classifier.weight"),
]  # fmt: skip
SCHEMES = ("timm_vit", "torchvision_vit", "huggingface_vit", "huggingface_dinov2")


@pytest.mark.parametrize("row", TABLE)
def test_names(row):
    module, leaf, *names = row
    assert [naming.source_name(scheme, module, leaf) for scheme in SCHEMES] == names


def test_registers_and_scales_have_names():
    assert naming.source_name("timm_vit", "embed", "registers") == "reg_token"
    assert naming.source_name("timm_vit", "block3/ls2", "gamma") == "blocks.2.ls2.gamma"
    dinov2 = naming.source_name("huggingface_dinov2", "block3/ls1", "gamma")
    assert dinov2 == "dinov2.encoder.layer.2.layer_scale1.lambda1"


@pytest.mark.parametrize("scheme", ["huggingface_vit", "huggingface_dinov2"])
def test_queries_keys_and_values_are_tensors_of_their_own_in_transformers(scheme):
    scaled = scheme == "huggingface_dinov2"
    model = VisionTransformer(8, 1, 2, patch=4, grid=2, num_classes=0, layer_scale=scaled)
    shapes = convert.shapes(model, 8)
    variables = jax.device_get(random_variables(model, size=8))
    tensors = convert.from_variables(variables, scheme)
    kernel = variables["params"]["block1"]["attn"]["qkv"]["kernel"]
    root = f"{scheme.removeprefix('huggingface_')}.encoder.layer.0.attention.attention"
    for number, part in enumerate(("query", "key", "value")):
        expected = kernel[:, 8 * number : 8 * number + 8].T
        np.testing.assert_array_equal(tensors[f"{root}.{part}.weight"], expected)
    again = convert.to_variables(tensors, shapes, scheme)
    np.testing.assert_array_equal(again["params"]["block1"]["attn"]["qkv"]["kernel"], kernel)
    del tensors[f"{root}.key.weight"]
    with pytest.raises(UserError, match=r"missing from the file:\n.*\{query,key,value\}\.weight"):
        convert.to_variables(tensors, shapes, scheme)


CLIP_TABLE = [
    ("embed/patch", "kernel", "embeddings.patch_embedding.weight"),
    ("embed", "cls", "embeddings.class_embedding"),
    ("embed", "positions", "embeddings.position_embedding.weight"),
    ("embed/norm", "scale", "pre_layrnorm.weight"),
    ("block12/norm2", "bias", "encoder.layers.11.layer_norm2.bias"),
    ("block2/attn/qkv", "bias", "encoder.layers.1.self_attn.{q_proj,k_proj,v_proj}.bias"),
    ("block2/attn/proj", "kernel", "encoder.layers.1.self_attn.out_proj.weight"),
    ("block2/mlp/fc2", "bias", "encoder.layers.1.mlp.fc2.bias"),
    ("pooled/norm", "scale", "post_layernorm.weight"),
]


@pytest.mark.parametrize(("module", "leaf", "name"), CLIP_TABLE)
def test_names_of_clip_in_transformers(module, leaf, name):
    name = f"vision_model.{name}"
    assert naming.source_name("huggingface_clip", module, leaf) == name
    alone = name.removeprefix("vision_model.")  # of a vision model without texts
    assert set(naming.canonical("huggingface_clip", {alone: None})) == {name}


def test_tokens_of_clip_in_transformers_have_fewer_axes():
    model = VisionTransformer(8, 1, 2, patch=4, grid=2, num_classes=0, pre_norm=True)
    variables = jax.device_get(random_variables(model, size=8))
    tensors = convert.from_variables(variables, "huggingface_clip")
    assert tensors["vision_model.embeddings.class_embedding"].shape == (8,)
    assert tensors["vision_model.embeddings.position_embedding.weight"].shape == (5, 8)
    again = convert.to_variables(tensors, convert.shapes(model, 8), "huggingface_clip")
    for leaf in ("cls", "positions"):
        expected = variables["params"]["embed"][leaf]
        np.testing.assert_array_equal(again["params"]["embed"][leaf], expected)


def test_dinov2_with_registers_in_transformers_has_a_position_of_the_class_token():
    scheme = "huggingface_dinov2_with_registers"
    model = VisionTransformer(8, 1, 2, patch=4, grid=2, num_classes=0, registers=3)
    for cls_position in (True, False):
        variables = random_variables(model.clone(cls_position=cls_position), size=8)
        tensors = convert.from_variables(jax.device_get(variables), scheme)
        table = tensors["dinov2_with_registers.embeddings.position_embeddings"]
        assert table.shape == (1, 5, 8) and np.any(table[:, 0]) == cls_position
        np.testing.assert_array_equal(
            table[:, not cls_position :], variables["params"]["embed"]["positions"]
        )
    assert "dinov2_with_registers.embeddings.register_tokens" in tensors


def test_files_tell_dinov2_with_registers_by_these():
    names = ["embeddings.patch_embeddings.projection.weight", "encoder.layer.0.norm1.weight"]
    assert naming.detect(names) == "huggingface_dinov2"
    more = [*names, "embeddings.register_tokens"]
    assert naming.detect(more) == "huggingface_dinov2_with_registers"
    assert naming.canonical("timm_vit", {"register_tokens": 0}) == {"reg_token": 0}  # its authors'


SIGLIP_TABLE = [
    ("embed", "positions", "pos_embed", "vision_model.embeddings.position_embedding.weight"),
    ("pooled", "probe", "attn_pool.latent", "vision_model.head.probe"),
    ("pooled/norm", "bias", "norm.bias", "vision_model.post_layernorm.bias"),
    ("pooled/attn/qkv", "kernel", "attn_pool.{q,kv:2}.weight",
     "vision_model.head.attention.in_proj_weight"),
    ("pooled/attn/proj", "bias", "attn_pool.proj.bias",
     "vision_model.head.attention.out_proj.bias"),
    ("pooled/norm2", "scale", "attn_pool.norm.weight", "vision_model.head.layernorm.weight"),
    ("pooled/mlp/fc2", "bias", "attn_pool.mlp.fc2.bias", "vision_model.head.mlp.fc2.bias"),
]  # fmt: skip


@pytest.mark.parametrize("row", SIGLIP_TABLE)
def test_names_of_siglip(row):
    module, leaf, *names = row
    schemes = ("timm_vit", "huggingface_siglip")
    assert [naming.source_name(scheme, module, leaf) for scheme in schemes] == names
    alone = names[1].removeprefix("vision_model.")
    assert set(naming.canonical("huggingface_siglip", {alone: None})) == {names[1]}


def test_timms_keys_and_values_of_the_pooling_are_one_tensor():
    sizes = {"cls": False, "cls_position": False, "pool": "attention", "num_classes": 0}
    model = VisionTransformer(8, 1, 2, patch=4, grid=2, **sizes)
    variables = jax.device_get(random_variables(model, size=8))
    for scheme in ("timm_vit", "huggingface_siglip"):
        tensors = convert.from_variables(variables, scheme)
        again = convert.to_variables(tensors, convert.shapes(model, 8), scheme)
        assert tree.differences(again["params"], variables["params"]) == []
        leaves = tree.named_leaves(again["params"])
        for path, leaf in tree.named_leaves(variables["params"]).items():
            np.testing.assert_array_equal(leaves[path], leaf)
    tensors = convert.from_variables(variables, "timm_vit")
    kernel = variables["params"]["pooled"]["attn"]["qkv"]["kernel"]
    np.testing.assert_array_equal(tensors["attn_pool.q.weight"], kernel[:, :8].T)
    np.testing.assert_array_equal(tensors["attn_pool.kv.weight"], kernel[:, 8:].T)


def test_names_of_older_torchvision():
    old = {"encoder.layers.encoder_layer_3.mlp.linear_2.weight": 0}
    assert naming.canonical("torchvision_vit", old) == {
        "encoder.layers.encoder_layer_3.mlp.3.weight": 0
    }


def test_names_of_a_headless_model_of_transformers():
    short = {"embeddings.cls_token": 0, "encoder.layer.0.x": 1, "layernorm.bias": 2}
    assert set(naming.canonical("huggingface_vit", short)) == {
        "vit.embeddings.cls_token", "vit.encoder.layer.0.x", "vit.layernorm.bias",
    }  # fmt: skip
