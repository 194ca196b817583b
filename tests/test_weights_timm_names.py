import pytest

from tl.errors import UserError
from tl.models import registry
from tl.weights import timm_names


def test_names_of_timm():
    assert timm_names.name_of("resnet50", {"stride_in": "1x1"}) == (
        "resnet50", {"stride_in": "1x1"},
    )  # fmt: skip
    assert timm_names.name_of("efficientnet_lite3", {}) == ("tf_efficientnet_lite3", {})
    own = timm_names.name_of("efficientnet_lite0", timm_names.OWN_LITE)
    assert own == ("efficientnet_lite0", {})
    assert timm_names.name_of("vit_small_patch32", {}) == ("vit_small_patch32_224", {})
    assert timm_names.name_of("vit_base_patch14", {}) == ("vit_base_patch14_dinov2", {})
    assert timm_names.name_of("resnet_tiny", {"a": 1}) == ("resnet_tiny", {"a": 1})
    openai = timm_names.name_of("vit_base_patch16_clip", timm_names.QUICK_GELU)
    assert openai == ("vit_base_patch16_clip_quickgelu_224", {})
    assert timm_names.name_of("convnextv2_base", {}) == ("convnextv2_base", {})


def test_every_name_is_of_a_network_here():
    for name, (backbone, arguments) in timm_names._NETWORKS.items():
        registry.build(backbone, **arguments)
        assert timm_names.network({"architecture": name}) == (backbone, dict(arguments))
    assert "vit_tiny_patch8_224" not in timm_names._NETWORKS


def test_other_arguments_of_a_convnext_are_refused():
    config = {"architecture": "convnext_tiny", "model_args": {"act_layer": "gelu_tanh"}}
    with pytest.raises(UserError, match="holds a convnext_tiny with act_layer='gelu_tanh'; exp"):
        timm_names.network(config)
    with pytest.raises(UserError, match=r"timm's convnext_nano, which is not known here"):
        timm_names.network({"architecture": "convnext_nano"})


def test_networks_with_the_tensors_of_others_are_refused():
    for name in ("resnetaa50", "resnetblur50", "resnetaa50d"):
        with pytest.raises(UserError, match=f"says {name}, which has the tensors of another netw"):
            timm_names.refuse(name)
    timm_names.refuse("resnet50")
    timm_names.refuse("")
