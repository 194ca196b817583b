import pytest

from tests import foreign
from tl.errors import UserError
from tl.models import registry
from tl.models.backbone import Endpoint, blocks


def test_a_size_that_the_network_does_not_take():
    foreign.VIT.check_size(64, 64)
    registry.get("resnet50").check_size(7, 224)
    with pytest.raises(UserError, match=r"^preprocess.size: vit .* 4 pixels, got 30; 32 is near"):
        foreign.VIT.check_size(30, 30)
    with pytest.raises(UserError, match=r"^preprocess.size: these .* 16 pixels only, got 32"):
        foreign.VIT.check_size(32, 16)


def test_an_endpoint_is_of_a_known_kind():
    with pytest.raises(ValueError, match=r"expected a kind of .* got 'image'"):
        Endpoint(3, "image")


def test_a_leaf_of_no_layer_is_said():
    with pytest.raises(ValueError, match="expected 'neck/kernel' to be of a layer of vit"):
        foreign.VIT.layer_of("neck/kernel")


def test_blocks_are_numbered_by_stage():
    assert blocks((1, 2)) == ("stage1/block1", "stage2/block1", "stage2/block2")


def test_earlier_stands_for_a_networks_own_stages():
    resnet, vit = registry.get("resnet18"), registry.get("vit_tiny_patch16")
    assert resnet.named_endpoints(("pooled", "earlier", "stage2", "a+b")) == (
        *("pooled", "stem", "stage1", "stage2", "stage3", "a+b"),
    )
    assert resnet.named_modules(("earlier", "*/bn", "stem")) == (
        *("stem", "stage1", "stage2", "stage3", "*/bn"),
    )
    assert resnet.named_endpoints(("last", "last+pooled")) == ("stage4", "stage4+pooled")
    with pytest.raises(UserError, match=r"^endpoints: 'earlier' stands for several endpoints, so"):
        resnet.named_endpoints(("earlier+pooled",))
    assert resnet.named_modules(("*", "!earlier"))[1:] == (
        *("!stem", "!stage1", "!stage2", "!stage3"),
    )
    assert vit.earlier == ("embed", *(f"block{i}" for i in range(1, 12)))
    assert vit.named_modules(("earlier@50", "head@9"))[::11] == ("embed@50", "block11@50")
    assert vit.named_modules(("earlier@50", "head@9"))[-1] == "head@9"
