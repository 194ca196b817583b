import pytest

from tl.errors import UserError
from tl.weights import naming

TABLE = [
    ("embed/patch", "kernel", "patch_embed.proj.weight", "embeddings.patch_embeddings.weight"),
    ("embed", "cls", "cls_token", "embeddings.cls_token"),
    ("embed", "registers", "reg_token", "embeddings.register_tokens"),
    ("block1/norm1", "scale", "blocks.0.norm1.weight", "layer.0.norm1.weight"),
    ("block12/attn/qkv", "kernel", "blocks.11.attn.qkv.weight",
     "layer.11.attention.{q_proj,k_proj,v_proj}.weight"),
    ("block2/attn/qkv", "query_bias", "blocks.1.attn.q_bias", "layer.1.attention.q_proj.bias"),
    ("block2/attn/qkv", "value_bias", "blocks.1.attn.v_bias", "layer.1.attention.v_proj.bias"),
    ("block2/attn/proj", "bias", "blocks.1.attn.proj.bias", "layer.1.attention.o_proj.bias"),
    ("block2/ls1", "gamma", "blocks.1.gamma_1", "layer.1.layer_scale1.lambda1"),
    ("block2/ls2", "gamma", "blocks.1.gamma_2", "layer.1.layer_scale2.lambda1"),
    ("block2/mlp/fc1", "kernel", "blocks.1.mlp.fc1.weight", "layer.1.mlp.up_proj.weight"),
    ("block2/mlp/up", "bias", "blocks.1.mlp.fc1_x.bias", "layer.1.mlp.up_proj.bias"),
    ("block2/mlp/gate", "bias", "blocks.1.mlp.fc1_g.bias", "layer.1.mlp.gate_proj.bias"),
    ("block2/mlp/fc2", "kernel", "blocks.1.mlp.fc2.weight", "layer.1.mlp.down_proj.weight"),
    ("pooled/norm", "bias", "norm.bias", "norm.bias"),
    ("head", "kernel", "head.weight", "classifier.weight"),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE)
def test_names(row):
    module, leaf, *names = row
    schemes = ("timm_dinov3", "huggingface_dinov3_vit")
    assert [naming.source_name(scheme, module, leaf) for scheme in schemes] == names


def test_names_in_the_memory_of_transformers():
    names = {"model.layer.0.norm1.bias": 0, "embeddings.cls_token": 1}
    assert set(naming.canonical("huggingface_dinov3_vit", names)) == {
        "layer.0.norm1.bias", "embeddings.cls_token",
    }  # fmt: skip


def test_files_tell_it_from_beit_and_from_a_vision_transformer_with_registers():
    of_vit = ["patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "reg_token"]
    assert naming.detect(of_vit) == "timm_vit"
    assert naming.detect([*of_vit, "blocks.0.gamma_1", "blocks.0.attn.q_bias"]) == "timm_dinov3"
    with pytest.raises(UserError, match="it holds a BEiT or EVA; expected"):
        naming.detect([*of_vit[:2], "blocks.0.gamma_1"])
    of_transformers = ["embeddings.patch_embeddings.weight", "embeddings.register_tokens"]
    assert naming.detect(of_transformers) == "huggingface_dinov3_vit"
