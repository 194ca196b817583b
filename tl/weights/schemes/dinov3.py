"""Names of DINOv3's tensors in timm and transformers."""

from tl.weights.schemes.scheme import TORCH_LEAVES, Scheme

_BLOCK = r"block(\d+)/"
_BIAS = _BLOCK + r"attn/qkv/(query|value)_bias"
_SCALE = _BLOCK + r"ls(\d)/gamma"
_TIMM = {"mlp/gate": "mlp.fc1_g", "mlp/up": "mlp.fc1_x"}
_HUGGINGFACE = {
    "attn/qkv": "attention.{q_proj,k_proj,v_proj}",
    "attn/proj": "attention.o_proj",
    "mlp/fc1": "mlp.up_proj",
    "mlp/up": "mlp.up_proj",
    "mlp/gate": "mlp.gate_proj",
    "mlp/fc2": "mlp.down_proj",
}
_LEAVES = {**TORCH_LEAVES, "gamma": "gamma"}

SCHEMES = {
    "timm_dinov3": Scheme(
        rules=(
            (r"embed/patch", lambda: "patch_embed.proj"),
            (
                _BLOCK + r"(.+)",
                lambda block, unit: f"blocks.{block - 1}.{_TIMM.get(unit, unit.replace('/', '.'))}",
            ),
            (r"pooled/norm", lambda: "norm"),
            (r"head", lambda: "head"),
        ),
        parameters=(
            (r"embed/cls", lambda: "cls_token"),
            (r"embed/registers", lambda: "reg_token"),
            (_BIAS, lambda block, part: f"blocks.{block - 1}.attn.{part[0]}_bias"),
            (_SCALE, lambda block, number: f"blocks.{block - 1}.gamma_{number}"),
        ),
        leaves=_LEAVES,
        first="block1/ls1/gamma",  # which BEiT has too, and no registers
        second="embed/registers",
        backbone=r"(cls_token|reg_token|pos_embed|patch_embed|blocks|norm)\b",
    ),
    "huggingface_dinov3_vit": Scheme(
        rules=(
            (r"embed/patch", lambda: "embeddings.patch_embeddings"),
            (
                _BLOCK + r"(.+)",
                lambda block, unit: f"layer.{block - 1}.{_HUGGINGFACE.get(unit, unit)}",
            ),
            (r"pooled/norm", lambda: "norm"),
            (r"head", lambda: "classifier"),
        ),
        parameters=(
            (r"embed/cls", lambda: "embeddings.cls_token"),
            (r"embed/registers", lambda: "embeddings.register_tokens"),
            (_BIAS, lambda block, part: f"layer.{block - 1}.attention.{part[0]}_proj.bias"),
            (_SCALE, lambda block, number: f"layer.{block - 1}.layer_scale{number}.lambda1"),
        ),
        aliases=((r"^model\.layer\.", "layer."),),  # of transformers 5 in memory
        leaves=_LEAVES,
        first="embed/patch",
        second="embed/registers",
        backbone=r"(embeddings\.(?!mask_token)|layer\.|norm\.)",
    ),
}
