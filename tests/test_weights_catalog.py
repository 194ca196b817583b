import math
import re

import pytest

from tl.errors import UserError
from tl.models import registry
from tl.weights import catalog, naming
from tl.weights.spec import HubFile, Preprocessing, Url


@pytest.mark.parametrize("name", catalog.names())
def test_every_set_is_complete(name):
    spec = catalog.get(name)
    assert spec.name == name and name.split(".")[0] == spec.backbone
    registry.build(spec.backbone, num_classes=spec.num_classes, **spec.model_args)
    assert spec.scheme in naming.SCHEMES and spec.licence
    if spec.top1 is not None:
        assert 0.6 < spec.top1 < 0.88 and spec.measured
        assert spec.top5 is None or spec.top1 < spec.top5 < 0.985
    match spec.source:
        case Url(url, sha256, md5):
            assert url.startswith("https://") and bool(sha256) != bool(md5)
            assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{32}", sha256 or md5)
        case HubFile(repo):
            assert repo.split("/")[0] in ("timm", "microsoft")


def test_no_two_sets_have_one_name():
    assert len(catalog._SETS) == len(catalog.names())


def test_the_sets_that_are_promised():
    promised = (
        "tv1 tv2 timm_tv timm_tv2 a1 a1h a2 a3 b1k b2k c1 c2 d ra ram am bt gluon fb_swsl fb_ssl "
        "microsoft keras keras_notop"
    )
    assert {f"resnet50.{name}" for name in promised.split()} <= set(catalog.names())
    for depth in (18, 34, 50, 101, 152):
        assert {f"resnet{depth}.{name}" for name in ("tv1", "a1", "gluon")} <= set(catalog.names())
    promised = {
        "resnext50_32x4d": "tv1 tv2 a1 a1h ra gluon fb_ssl",
        "resnext101_32x8d": "tv1 tv2 timm_tv2 fb_wsl",
        "resnext101_64x4d": "tv1 c1",
        "wide_resnet50_2": "tv1 tv2 racm",
        "wide_resnet101_2": "tv1 tv2",
        "resnet18d": "ra2 ra4",
        "resnet50d": "a1 gluon ra2 ra4",
        "resnet152d": "ra2 gluon",
        "resnetv2_50": "a1h",
        "resnetv2_50x1_bit": "goog_in21k goog_in21k_ft goog_distilled",
        "resnetv2_101x1_bit": "goog_in21k goog_in21k_ft",
    }
    for backbone, sets in promised.items():
        assert {f"{backbone}.{name}" for name in sets.split()} <= set(catalog.names())


def test_published_rows_of_the_relatives():
    bit = catalog.get("resnetv2_101x1_bit.goog_in21k_ft")
    p = bit.preprocessing
    assert (p.size, p.crop_pct, p.interpolation, p.mean) == (448, 1.0, "bilinear", (127.5,) * 3)
    assert (bit.top1, bit.top5, bit.scheme) == (0.82332, 0.96524, "timm_resnet_v2")
    of_21k = catalog.get("resnetv2_50x1_bit.goog_in21k")
    assert (of_21k.num_classes, of_21k.top1, of_21k.measured) == (21843, None, "")
    assert of_21k.notes == "its head has the 21,843 classes of ImageNet-21k"
    assert catalog.get("resnet50d.a3").notes == "at size/crop_pct 224/0.95: 78.742 / 94.236 %"
    assert catalog.get("resnext101_64x4d.tv1").preprocessing.crop_pct == 0.965


@pytest.mark.parametrize(
    ("name", "resized"),
    [  # the side that each publisher states
        ("resnet50.tv1", 256), ("resnet50.tv2", 232), ("resnet50.a1", 235),
        ("convnext_tiny.tv1", 236), ("convnext_small.tv1", 230), ("convnext_base.tv1", 232),
        ("resnet50.timm_tv2", 201), ("resnet50.a3", 168), ("resnet50.microsoft", 256),
    ],
)  # fmt: skip
def test_crop_pct_gives_the_published_resize(name, resized):
    p = catalog.get(name).preprocessing
    assert math.floor(p.size / p.crop_pct) == resized


def test_published_rows():
    tv1 = catalog.get("resnet50.tv1")
    assert tv1.source.url == "https://download.pytorch.org/models/resnet50-0676ba61.pth"
    assert (tv1.source.sha256, tv1.top1, tv1.top5) == ("0676ba61", 0.7613, 0.92862)
    a1h = catalog.get("resnet50.a1h")
    assert a1h.source.url.startswith("https://huggingface.co/timm/resnet50.a1h_in1k/resolve/")
    assert (a1h.preprocessing.size, a1h.preprocessing.crop_pct, a1h.top1) == (176, 0.9, 0.79264)
    assert a1h.notes == "at size/crop_pct 224/1.0: 80.654 / 95.312 %"
    keras = catalog.get("resnet50.keras")
    assert keras.source.url.endswith("resnet50_weights_tf_dim_ordering_tf_kernels.h5")
    assert keras.preprocessing.channels == "BGR" and keras.model_args["stride_in"] == "1x1"
    assert catalog.get("resnet34.ra4").preprocessing.mean == (127.5, 127.5, 127.5)
    deit = catalog.get("vit_small_patch16.deit")
    assert deit.source == HubFile("timm/deit_small_patch16_224.fb_in1k")
    assert (deit.top1, deit.preprocessing.crop_pct, deit.other_files) == (
        0.79856,
        0.9,
        ("cd65a155",),
    )
    dinov2 = catalog.get("vit_base_patch14_reg4.dinov2")
    assert (dinov2.preprocessing.size, dinov2.num_classes, dinov2.top1) == (518, 0, None)
    large = catalog.get("vit_base_patch16.augreg_in21k_ft_384")
    assert (large.preprocessing.size, large.preprocessing.crop_pct) == (384, 1.0)
    assert large.preprocessing.mean == large.preprocessing.std == (127.5, 127.5, 127.5)
    assert catalog.get("vit_tiny_patch16.augreg_in21k").num_classes == 21843
    openai = catalog.get("vit_base_patch16_clip.openai")
    assert openai.source == HubFile("timm/vit_base_patch16_clip_224.openai")
    assert (openai.num_classes, openai.model_args) == (0, {"activation": "quick_gelu"})
    tuned = catalog.get("vit_base_patch16_clip.laion2b_ft_in12k_in1k_384")
    assert (tuned.preprocessing.geometry, tuned.top1, tuned.model_args) == ("whole", 0.8721, {})


def test_sets_of_siglip_and_dinov3():
    siglip = catalog.get("vit_base_patch16_siglip.v2_webli_384")
    assert siglip.source == HubFile("timm/vit_base_patch16_siglip_384.v2_webli")
    assert (siglip.scheme, siglip.num_classes, siglip.licence) == ("timm_vit", 0, "Apache-2.0")
    assert (siglip.preprocessing.size, siglip.preprocessing.crop_pct) == (384, 0.9)
    assert siglip.preprocessing.mean == (127.5,) * 3
    dinov3 = catalog.get("vit_small_plus_patch16_dinov3.lvd1689m")
    assert dinov3.source == HubFile("timm/vit_small_plus_patch16_dinov3.lvd1689m")
    assert (dinov3.licence, dinov3.non_commercial) == ("dinov3-license", False)
    assert dinov3.notes.endswith("ai.meta.com/resources/models-and-libraries/dinov3-license/")
    assert dinov3.preprocessing == Preprocessing(256, 1.0, "resize_crop", "bicubic")


def test_published_rows_of_convnext():
    tiny = catalog.get("convnext_tiny.fb")
    assert tiny.source == HubFile("timm/convnext_tiny.fb_in1k")
    assert (tiny.top1, tiny.top5, tiny.licence) == (0.82066, 0.95854, "Apache-2.0")
    assert tiny.preprocessing == Preprocessing(224, 0.875, "resize_crop", "bicubic")
    assert tiny.notes == "at size/crop_pct 288/1.0: 82.694 / 96.144 %"
    large = catalog.get("convnext_small.in12k_ft_384")
    assert (large.preprocessing.size, large.preprocessing.geometry) == (384, "whole")
    assert catalog.get("convnext_base.fb_in22k").num_classes == 21841
    assert catalog.get("convnext_tiny.in12k").num_classes == 11821
    v2 = catalog.get("convnextv2_base.fcmae_ft_in22k_in1k")
    assert v2.source == HubFile("timm/convnextv2_base.fcmae_ft_in22k_in1k")
    assert (v2.top1, v2.licence, v2.non_commercial) == (0.86752, "CC-BY-NC-4.0", True)
    assert catalog.get("convnextv2_tiny.fcmae").num_classes == 0
    tv1 = catalog.get("convnext_small.tv1")
    assert tv1.source.url == "https://download.pytorch.org/models/convnext_small-0c510722.pth"
    assert (tv1.scheme, tv1.top1) == ("torchvision_convnext", 0.83616)


def test_non_commercial_licences():
    found = {name for name in catalog.names() if catalog.get(name).non_commercial}
    resnext = ("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d")
    backbones = ("resnet18", "resnet50", *resnext)
    metaclip = {f"vit_base_patch{p}_clip.metaclip_{n}" for p in (16, 32) for n in ("400m", "2pt5b")}
    expected = {f"{backbone}.fb_{s}" for backbone in backbones for s in ("ssl", "swsl")}
    v2 = {name for name in catalog.names() if name.startswith("convnextv2")}
    assert found == expected | {"resnext101_32x8d.fb_wsl", "vit_base_patch16.mae", *metaclip, *v2}


def test_a_misspelt_name_lists_the_near_ones():
    with pytest.raises(UserError, match=r"'resnet50\.tv3' and no file.*'resnet50\.tv2'"):
        catalog.get("resnet50.tv3")
    with pytest.raises(UserError) as caught:
        catalog.get("nowhere")
    assert str(caught.value) == (
        "no weight set is called 'nowhere' and no file or run is there; `python -m "
        "experiments.weights list` lists all sets"
    )


def test_files_are_recognised_by_their_checksums():
    def name(sha256="f" * 64, md5="f" * 32):
        spec = catalog.recognise(sha256, lambda: md5)
        return spec and spec.name

    assert name(sha256="0676ba61" + "0" * 56) == "resnet50.tv1"
    assert name(sha256="19c8e357" + "0" * 56) == "resnet50.tv1"  # the same set's older file
    assert name(sha256="14fe96d1" + "0" * 56) == "resnet50.a1"
    assert name(md5="4d473c1dd8becc155b73f8504c6f6626") == "resnet50.keras_notop"
    assert name() is None


def test_a_published_file_that_only_seems_to_be_known_is_refused():
    with pytest.raises(UserError, match=r"timm's resnetblur50\.bt_in1k, which has the tensors of"):
        catalog.refuse("84f4748f" + "0" * 56)
    with pytest.raises(
        UserError, match=r"timm's resnetaa50\.a1h_in1k, .* filters where it strides"
    ):
        catalog.refuse("4cf422b3" + "0" * 56)
    catalog.refuse("0676ba61" + "0" * 56)


def test_a_known_sha256_needs_no_md5():
    def md5():
        raise AssertionError("the file is read a second time")

    assert catalog.recognise("0676ba61" + "0" * 56, md5).name == "resnet50.tv1"


def test_the_probabilities_of_a_published_head_follow_the_loss_it_was_trained_with():
    sigmoid = {name for name in catalog.names() if catalog.get(name).link == "sigmoid"}
    backbones = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
    backbones += ["resnext50_32x4d", "resnet50d"]
    assert sigmoid == {f"{backbone}.a{number}" for backbone in backbones for number in (1, 2, 3)}
