"""Which networks timm's names and arguments stand for, and back."""

import re
from collections.abc import Mapping
from typing import Any

from tl.errors import UserError, nearest
from tl.models import registry

# Arguments of timm's models: values with which a network is the one known here; None for any value.
_ARGUMENTS = {
    "num_classes": None,
    "drop_rate": None,
    "drop_path_rate": None,
    "drop_block_rate": None,
    "zero_init_last": None,
    "in_chans": 3,
    "output_stride": 32,
    "img_size": None,  # a position table says it
    "dynamic_img_size": None,
}
# timm's own EfficientNet-Lites, beside those of TensorFlow's weights, which are called `tf_`.
OWN_LITE = {"padding": "torch", "norm_epsilon": 1e-5}
QUICK_GELU = {"activation": "quick_gelu"}

# Name in timm to our name and the arguments that differ from its defaults.
_NETWORKS: dict[str, tuple[str, Mapping[str, Any]]] = {
    **{name: (name, {}) for name in registry.names() if re.search("resne|convne", name)},
    **{f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}", {}) for i in range(5)},
    **{f"efficientnet_lite{i}": (f"efficientnet_lite{i}", OWN_LITE) for i in range(5)},
    **{
        f"{kind}_{size}_patch{patch}_{pixels}": (f"vit_{size}_patch{patch}", {})
        for kind, patches in (("vit", (8, 16, 32)), ("deit", (16,)))
        for size in ("tiny", "small", "base")
        for patch in patches
        for pixels in (224, 384)
        if f"vit_{size}_patch{patch}" in registry.names()
    },
    **{
        f"vit_{size}_patch14{registers}_dinov2": (f"vit_{size}_patch14{registers}", {})
        for size in ("small", "base")
        for registers in ("", "_reg4")
    },
    **{
        f"vit_base_patch{patch}_clip_{kind}{pixels}": (f"vit_base_patch{patch}_clip", arguments)
        for patch in (16, 32)
        for kind, arguments in (("", {}), ("quickgelu_", QUICK_GELU))
        for pixels in (224, 256, 384, 448)
    },
    **{
        f"vit_base_patch16_siglip_{pixels}": ("vit_base_patch16_siglip", {})
        for pixels in (224, 256, 384, 512)
    },
    **{
        f"{name}{ending}": (name, arguments)
        for name in registry.names()
        if name.endswith("_dinov3")
        for ending, arguments in (("", {}), ("_qkvb", {"qkv_bias": True}))
    },
}
OTHER_ARITHMETIC = (
    "has the tensors of another network and other arithmetic: it filters where it strides; it is "
    "not known here"
)
# Networks of which that is true.
_SAME_TENSORS = re.compile(r"resnet(aa|blur)\d+d?")


def refuse(architecture: str) -> None:
    """Raises UserError for a name of a network that has the tensors of one known here.

    They differ in arithmetic, so its weights would be read without a word and be wrong.
    """
    if _SAME_TENSORS.fullmatch(architecture):
        raise UserError(f"its config.json says {architecture}, which {OTHER_ARITHMETIC}")


def network(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns our name of the network of timm's `config.json`, and its unusual arguments.

    Raises:
      UserError: it is not known here.
    """
    architecture = config["architecture"]
    if architecture not in _NETWORKS:
        raise UserError(
            f"it holds timm's {architecture}, which is not known here"
            + nearest(architecture, _NETWORKS, "docs/weights.md lists the networks")
        )
    backbone, model_args = _NETWORKS[architecture]
    pool = global_pool(backbone)
    arguments = {**_ARGUMENTS, "global_pool": pool}
    if backbone.endswith("_dinov3") and config.get("num_classes") == 0:
        arguments["global_pool"] = None  # timm's default is `avg`; without a head it is for none
    for argument, value in {
        "global_pool": config.get("global_pool") or pool,
        **config.get("model_args", {}),
    }.items():
        if argument not in arguments or arguments[argument] not in (None, value):
            raise UserError(
                f"it holds a {architecture} with {argument}={value!r}; expected the usual one"
            )
    return backbone, dict(model_args)


def global_pool(backbone: str) -> str:
    """Returns how timm calls the pooling of one of our networks."""
    if not backbone.startswith("vit"):
        return "avg"
    return "map" if registry.get(backbone).arguments.get("pool") == "attention" else "token"


def name_of(backbone: str, model_args: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns timm's name of a network, ours if it has none, and arguments that it leaves out.

    Args:
      backbone: a name of `tl.models.registry`.
      model_args: arguments of the model that differ from its defaults.
    """
    names = {name: theirs for name, (ours, theirs) in _NETWORKS.items() if ours == backbone}
    for name, arguments in names.items():
        if arguments == model_args:
            return name, {}
    return next(iter(names), backbone), dict(model_args)
