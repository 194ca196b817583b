"""Names of a vision transformer's tensors in timm, torchvision and transformers.

timm's names are also those of the files that DeiT, DINO, MAE and DINOv2 were published in.
"""

from collections.abc import Callable

from tl.weights.schemes.scheme import TORCH_LEAVES, Scheme

_BLOCK = r"block(\d+)/"
# transformers has a layer for each of queries, keys and values.
_SPLIT = "{query,key,value}"


def _torchvision(unit: str) -> str:
    names = {"norm1": "ln_1", "norm2": "ln_2", "attn/proj": "self_attention.out_proj"}
    return names.get(unit) or {"mlp/fc1": "mlp.0", "mlp/fc2": "mlp.3"}[unit]


def _huggingface(unit: str) -> str:
    return {
        "attn/qkv": f"attention.attention.{_SPLIT}",
        "attn/proj": "attention.output.dense",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "mlp/fc1": "intermediate.dense",
        "mlp/fc2": "output.dense",
    }[unit]


def _huggingface_dinov2(unit: str) -> str:
    names = {"attn/qkv": f"attention.attention.{_SPLIT}", "attn/proj": "attention.output.dense"}
    return names.get(unit) or {"ls1": "layer_scale1", "ls2": "layer_scale2"}.get(
        unit, unit.replace("/", ".")
    )


def _transformers(
    root: str,
    unit_name: Callable[[str], str],
    aliases: tuple[tuple[str, str], ...] = (),
    scale: str = "gamma",
    cls_position: bool = False,
    second: str = "block1/norm1",  # whose name tells ViT and DINOv2 apart
) -> Scheme:
    embeddings = f"{root}.embeddings"
    return Scheme(
        rules=(
            (r"embed/patch", lambda: f"{embeddings}.patch_embeddings.projection"),
            (
                _BLOCK + r"(.+)",
                lambda block, unit: f"{root}.encoder.layer.{block - 1}.{unit_name(unit)}",
            ),
            (r"pooled/norm", lambda: f"{root}.layernorm"),
            (r"head", lambda: "classifier"),
        ),
        parameters=(
            (r"embed/cls", lambda: f"{embeddings}.cls_token"),
            (r"embed/registers", lambda: f"{embeddings}.register_tokens"),
            (r"embed/positions", lambda: f"{embeddings}.position_embeddings"),
        ),
        aliases=(
            (r"^(embeddings|encoder|layers|layernorm)\.", rf"{root}.\1."),  # of a headless model
            *aliases,
            # transformers 5 calls them so in memory, where torch.save sees them.
            (r"\.attention\.o_proj\.", ".attention.output.dense."),
            *(
                (rf"\.attention\.{name[0]}_proj\.", f".attention.attention.{name}.")
                for name in ("query", "key", "value")
            ),
        ),
        leaves={**TORCH_LEAVES, "gamma": scale},
        first="embed/patch",
        second=second,
        backbone=rf"{root}\.(?!embeddings\.mask_token)",
        cls_position=cls_position,
    )


def _of_images_and_texts(second: str, flat: tuple[str, ...]) -> Scheme:
    """Returns the names of transformers for the vision models of CLIP and SigLIP."""
    units = {
        "attn/qkv": "self_attn.{q_proj,k_proj,v_proj}",
        "attn/proj": "self_attn.out_proj",
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
        "mlp/fc1": "mlp.fc1",
        "mlp/fc2": "mlp.fc2",
    }
    pooling = {**units, "attn/proj": "attention.out_proj", "norm2": "layernorm"}
    embeddings = "vision_model.embeddings"
    return Scheme(
        rules=(
            (r"embed/patch", lambda: f"{embeddings}.patch_embedding"),
            (r"embed/norm", lambda: "vision_model.pre_layrnorm"),
            (
                _BLOCK + r"(.+)",
                lambda block, unit: f"vision_model.encoder.layers.{block - 1}.{units[unit]}",
            ),
            (r"pooled/norm", lambda: "vision_model.post_layernorm"),
            (r"pooled/(.+)", lambda unit: f"vision_model.head.{pooling[unit]}"),
            # Their classifiers act on the mean of the patches, which no head here takes.
            (r"head", lambda: "classifier_of_pooled"),
        ),
        parameters=(
            (r"embed/cls", lambda: f"{embeddings}.class_embedding"),
            (r"embed/positions", lambda: f"{embeddings}.position_embedding.weight"),
            (r"pooled/probe", lambda: "vision_model.head.probe"),
            (
                r"pooled/attn/qkv/(kernel|bias)",
                lambda leaf: f"vision_model.head.attention.in_proj_{TORCH_LEAVES[leaf]}",
            ),
        ),
        aliases=(  # of a vision model alone
            (
                r"^(embeddings|pre_layrnorm|encoder|post_layernorm|"
                r"head\.(?=probe|attention|layernorm|mlp))",
                r"vision_model.\1",
            ),
        ),
        first="embed/patch",
        second=second,
        backbone=r"vision_model\.(?!embeddings\.position_ids)",
        any_head=False,
        flat=flat,
    )


SCHEMES = {
    "timm_vit": Scheme(
        rules=(
            (r"embed/patch", lambda: "patch_embed.proj"),
            (r"embed/norm", lambda: "norm_pre"),
            (
                _BLOCK + r"(.+)",
                lambda block, unit: f"blocks.{block - 1}.{unit.replace('/', '.')}",
            ),
            (r"pooled/norm", lambda: "norm"),
            (r"pooled/norm2", lambda: "attn_pool.norm"),
            (r"pooled/attn/qkv", lambda: "attn_pool.{q,kv:2}"),
            (r"pooled/attn/proj", lambda: "attn_pool.proj"),
            (r"pooled/mlp/(fc\d)", lambda layer: f"attn_pool.mlp.{layer}"),
            (r"head", lambda: "head"),
        ),
        parameters=(
            (r"embed/cls", lambda: "cls_token"),
            (r"embed/registers", lambda: "reg_token"),
            (r"embed/positions", lambda: "pos_embed"),
            (r"pooled/probe", lambda: "attn_pool.latent"),
        ),
        aliases=((r"^register_tokens$", "reg_token"),),  # of DINOv2's authors
        leaves={**TORCH_LEAVES, "gamma": "gamma"},
        first="embed/patch",
        second="block1/attn/qkv",
        # With the tokens and the pooling of other networks, so that these are refused by name.
        backbone=r"(cls_token|reg_token|dist_token|pos_embed|patch_embed|norm_pre|"
        r"blocks|norm|attn_pool)\b",
    ),
    "torchvision_vit": Scheme(
        rules=(
            (r"embed/patch", lambda: "conv_proj"),
            (
                _BLOCK + r"(.+)",
                lambda block, unit: (
                    f"encoder.layers.encoder_layer_{block - 1}.{_torchvision(unit)}"
                ),
            ),
            (r"pooled/norm", lambda: "encoder.ln"),
            (r"head", lambda: "heads.head"),
        ),
        parameters=(
            (
                _BLOCK + r"attn/qkv/(kernel|bias)",
                lambda block, leaf: (
                    f"encoder.layers.encoder_layer_{block - 1}.self_attention.in_proj_"
                    + TORCH_LEAVES[leaf]
                ),
            ),
            (r"embed/cls", lambda: "class_token"),
            (r"embed/positions", lambda: "encoder.pos_embedding"),
        ),
        aliases=(  # names before torchvision 0.13
            (r"\.mlp\.linear_1\.", ".mlp.0."),
            (r"\.mlp\.linear_2\.", ".mlp.3."),
        ),
        first="embed/patch",
        second="block1/attn/qkv",
        backbone=r"(class_token$|conv_proj\.|encoder\.)",
    ),
    "huggingface_vit": _transformers(
        "vit",
        _huggingface,
        aliases=(
            (r"^vit\.layers\.", "vit.encoder.layer."),
            (r"\.mlp\.fc1\.", ".intermediate.dense."),
            (r"(layer\.\d+)\.mlp\.fc2\.", r"\1.output.dense."),
        ),
    ),
    "huggingface_dinov2_with_registers": _transformers(
        "dinov2_with_registers",
        _huggingface_dinov2,
        scale="lambda1",
        cls_position=True,
        second="embed/registers",
    ),
    "huggingface_dinov2": _transformers("dinov2", _huggingface_dinov2, scale="lambda1"),
    "huggingface_clip": _of_images_and_texts(
        second="embed/norm/scale", flat=("embed/cls", "embed/positions")
    ),
    "huggingface_siglip": _of_images_and_texts(second="pooled/probe", flat=("embed/positions",)),
}
