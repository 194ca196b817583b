import numpy as np
import pytest

from tl.errors import UserError
from tl.weights import naming, readings

# What tells a scheme, and a head, in few tensors.
NETWORKS = {
    "torchvision": [
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.conv1.weight",
        "layer4.1.bn2.bias",
    ],
    "huggingface": [
        "resnet.embedder.embedder.convolution.weight",
        "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight",
    ],
    "efficientnet_lite": ["_conv_stem.weight", "_blocks.0._depthwise_conv.weight", "_bn1.bias"],
    "timm_efficientnet_lite": ["conv_stem.weight", "blocks.0.0.conv_dw.weight", "bn2.bias"],
    "keras": ["conv1_conv/kernel", "conv2_block1_1_conv/kernel"],
}
HEADS = {scheme: naming.source_name(scheme, "head", "kernel") for scheme in NETWORKS}
WRAPPERS = [
    "",
    "module.",
    "model.",
    "net.",
    "network.",
    "backbone.",
    "encoder.",
    "resnet.",
    "module.model.backbone.",
    "state_dict/",
    "model_state_dict/",
    "weights/",
    "net/module.",
    "state_dict/model.net.",
    "0/module.",
]
W = 8  # width of the features


def array(*shape, value=1.0):
    return np.full(shape, value, np.float32)


def network(prefix="", scheme="torchvision", value=1.0):
    return {prefix + name: array(1, value=value) for name in NETWORKS[scheme]}


def head(weight="fc.weight", bias="fc.bias", classes=3):
    return {weight: array(classes, W), bias: array(classes)}


def said(tensors, **arguments):
    reading = readings.find(tensors, **arguments)
    return readings.described(reading, readings.with_head(reading, W)[1])


@pytest.mark.parametrize("scheme", NETWORKS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_are_stripped(wrapper, scheme):
    tensors = {**network(wrapper, scheme), wrapper + HEADS[scheme]: array(1)}
    reading = readings.find(tensors)
    assert (reading.prefix, reading.scheme) == (wrapper, scheme)
    assert list(reading.tensors) == [*NETWORKS[scheme], HEADS[scheme]]
    assert not reading.foreign and not reading.left_out
    expected = f"stripped {wrapper!r} from the names" if wrapper else ""
    assert readings.described(reading, "") == expected


def test_the_short_names_of_hugging_face_need_no_stripping():
    tensors = {name.removeprefix("resnet."): 0 * array(1) for name in NETWORKS["huggingface"]}
    reading = readings.find(tensors)
    assert (reading.prefix, reading.scheme) == ("", "huggingface")
    wrapped = readings.find({f"model.{name}": value for name, value in tensors.items()})
    assert (wrapped.prefix, list(wrapped.tensors)) == ("model.", list(tensors))


@pytest.mark.parametrize("wrapper", ["", "state_dict/feature_extractor.", "model/0."])
def test_the_children_of_a_network_in_a_sequence(wrapper):
    numbered = ["0.weight", "1.running_mean", "4.0.conv1.weight", "7.1.bn2.bias"]
    tensors = dict(zip([wrapper + name for name in numbered], network().values(), strict=True))
    outside = wrapper.removesuffix("feature_extractor.").removesuffix("0.")
    reading = readings.find(tensors | head(f"{outside}cls.weight", f"{outside}cls.bias"))
    assert (reading.prefix, list(reading.tensors)) == (wrapper, numbered)
    found, _ = readings.with_head(reading, W)
    assert list(found) == [*NETWORKS["torchvision"], "fc.bias", "fc.weight"]


@pytest.mark.parametrize(
    "wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]
)
def test_wrappers_inside_of_names_are_stripped(wrapper):
    plain = network()
    for tensors in (
        {f"{wrapper}.{name}": value for name, value in plain.items()},
        {name.replace("layer1.", f"layer1.{wrapper}."): value for name, value in plain.items()},
        {f"module.{wrapper}.{name}": value for name, value in plain.items()},
    ):
        assert list(readings.find(tensors).tensors) == list(plain)
        assert f"stripped '{wrapper}.'" in said(tensors)


def test_state_of_the_training_is_left_out():
    tensors = {
        **{f"state_dict/model.{name}": value for name, value in (network() | head()).items()},
        "optimizer_states/0/state/0/exp_avg": array(W, W),
        "lr_schedulers/0/last": array(1),
        "callbacks/Stopping/best": array(1),
        "state_dict/criterion.weight": array(3),
        "state_dict/train_loss.value": array(1),
        "state_dict/n_averaged": np.zeros((), np.int64),
    }
    reading = readings.find(tensors)
    assert not reading.foreign and "fc.weight" in reading.tensors
    assert readings.described(reading, "") == (
        "stripped 'state_dict/model.' from the names; left out callbacks, lr_schedulers, "
        "optimizer_states, state_dict/criterion, state_dict/n_averaged, state_dict/train_loss"
    )


def test_a_long_list_is_cut():
    tensors = network("model/") | {f"x{number:02}/w": array(1) for number in range(11)}
    assert said(tensors).endswith("x06, x07 and 3 more")


@pytest.mark.parametrize(
    ("raw", "averaged"),
    [
        ("model/", "model_ema/"),
        ("model/", "model_ema/module."),
        ("state_dict/", "state_dict_ema/"),
        ("state_dict/model.", "state_dict/ema_model.module."),
        ("model.", "swa_model."),
        ("", "averaged_model."),
        ("current_model_state/model.", "state_dict/model."),
    ],
)
def test_of_raw_and_averaged_weights_the_raw_are_read(raw, averaged):
    for tensors in (
        network(raw) | network(averaged, value=2),
        network(averaged, value=2) | network(raw),
    ):
        assert readings.find(tensors).tensors["conv1.weight"] == 1
        assert f"read the raw weights (`weights_average=ema` takes the averaged, {averaged!r})" in (
            said(tensors)
        )
        assert readings.find(tensors, average="ema").tensors["conv1.weight"] == 2
        assert "read the averaged weights; left out" in said(tensors, average="ema")


def test_averaged_weights_alone_are_read():
    assert said(network("model_ema/module.")).endswith("; read the averaged weights")
    assert said(network("state_dict/model.")) == "stripped 'state_dict/model.' from the names"


def test_an_average_that_is_not_there():
    with pytest.raises(
        UserError, match=r"`weights_average=ema` expects .* there is a network at 'm"
    ):
        readings.find(network("model/"), average="ema")
    with pytest.raises(UserError, match="the raw ones; there is no network"):
        readings.find({"x": array(1)}, average="ema")


def test_the_head_of_the_other_weights_is_not_taken_for_this_ones():
    tensors = {
        **network("model.backbone."),
        **network("ema.backbone.", value=2),
        "model.classifier.weight": array(3, W),
        "ema.classifier.weight": array(3, W, value=2),
    }
    for average, value in (("", 1), ("ema", 2)):
        found, _ = readings.with_head(readings.find(tensors, average), W)
        assert (found["fc.weight"] == value).all()


@pytest.mark.parametrize(
    ("prefixes", "rule"),
    [
        (["state_dict/module.encoder_q.", "state_dict/module.encoder_k."], "moco"),
        (["state_dict/module.encoder_q."], "moco"),
        (["state_dict/module.base_encoder.", "state_dict/module.momentum_encoder."], "moco_v3"),
        (["student/module.backbone.", "teacher/backbone."], "dino"),
        (["teacher/"], "dino"),
    ],
)
def test_networks_that_come_in_pairs_need_their_rule(prefixes, rule):
    tensors = {name: value for prefix in prefixes for name, value in network(prefix).items()}
    with pytest.raises(UserError, match=rf"{min(prefixes)}.* prefix rule: `weights_prefix={rule}`"):
        readings.find(tensors)


@pytest.mark.parametrize("prefixes", [["b.", "a."], ["online_network."], ["model/", "best_model/"]])
def test_of_several_networks_one_can_be_named(prefixes):
    tensors = {name: value for prefix in prefixes for name, value in network(prefix).items()}
    message = rf"a network at '.*such as `weights_prefix={min(prefixes)}`"
    with pytest.raises(UserError, match=message):
        readings.find(tensors)
    assert list(readings.find(tensors, prefix=prefixes[-1]).tensors) == NETWORKS["torchvision"]
    with pytest.raises(UserError, match=r"`weights_prefix=c\.` expects .* a network at '"):
        readings.find(tensors, prefix="c.")


@pytest.mark.parametrize(
    "name",
    ["state_dict/backbone.", "module.", "model/module.backbone."],  # SimCLR, SwAV, Barlow Twins
)
def test_self_supervised_checkpoints_of_one_network_need_no_rule(name):
    projection = {f"{name}fc.0.weight": array(4, W), f"{name}fc.2.weight": array(2, 4)}
    found, note = readings.with_head(readings.find(network(name) | projection), W)
    assert list(found) == NETWORKS["torchvision"]
    assert note == "left out fc: only one linear layer on the 8 features is read as a head"


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["conv1.weight"],
        ["layer1.0.conv1.weight", "layer2.0.conv1.weight"],
        ["features.0.weight"],
        ["decoder.conv1.weight", "encoder.layer1.0.conv1.weight"],
    ],
)
def test_no_network(names):
    assert readings.find({name: array(1) for name in names}) is None


def test_absurd_names_cost_little():
    assert readings.find({"a/" * 10**5 + "conv1.weight": array(1)}) is None


@pytest.mark.parametrize(
    ("name", "said_name"),
    [
        ("fc.1", "fc.1"),
        ("classifier", "classifier"),
        ("head.fc", "head.fc"),
        ("last_linear", "last_linear"),
    ],
)
@pytest.mark.parametrize("wrapper", ["", "state_dict/model."])
def test_a_linear_head_of_another_name_is_read(wrapper, name, said_name):
    tensors = network(wrapper) | head(f"{wrapper}{name}.weight", f"{wrapper}{name}.bias")
    found, note = readings.with_head(readings.find(tensors), W)
    assert found["fc.weight"].shape == (3, W) and found["fc.bias"].shape == (3,)
    assert note == f"read {said_name} as the head"


def test_a_linear_head_beside_the_backbone():
    tensors = network("state_dict/backbone.") | head("state_dict/cls.weight", "state_dict/cls.bias")
    found, note = readings.with_head(readings.find(tensors), W)
    assert list(found)[-2:] == ["fc.bias", "fc.weight"]
    assert note == "read state_dict/cls as the head"


def test_a_head_without_a_bias_gets_zeros():
    for name in ("fc", "classifier"):
        tensors = network() | {f"{name}.weight": array(3, W)}
        found, _ = readings.with_head(readings.find(tensors), W)
        assert found["fc.bias"].tolist() == [0, 0, 0] and found["fc.weight"].shape == (3, W)


@pytest.mark.parametrize(
    ("foreign", "names"),
    [
        ({"fc.0.weight": (4, W), "fc.0.bias": (4,), "fc.2.weight": (3, 4)}, "fc"),
        ({"fc.weight": (3, W), "fc.bias": (3,), "pool.p": (1,)}, "fc, pool"),
        ({"fc.weight": (3, 4 * W), "fc.bias": (3,)}, "fc"),
        ({"fc.weight": (3, W, 1, 1), "fc.bias": (3,)}, "fc"),
        ({"fc.weight": (3, W), "fc.bias": (2,)}, "fc"),
        ({"fc.bias": (3,)}, "fc"),
        ({"norm.weight": (W,), "norm.bias": (W,)}, "norm"),
        ({"a.weight": (3, W), "b.weight": (3, W)}, "a, b"),
        ({"head.weight": (3, W), "head.scale": (1,)}, "head"),
        ({"head.weight": (3, W + 1)}, "head"),
    ],
)
def test_any_other_head_is_left_out(foreign, names):
    tensors = network() | {name: array(*shape) for name, shape in foreign.items()}
    found, note = readings.with_head(readings.find(tensors), W)
    assert list(found) == NETWORKS["torchvision"]
    assert note == f"left out {names}: only one linear layer on the 8 features is read as a head"


def test_only_the_own_head_of_keras_is_read():
    own = {"predictions/kernel": array(W, 3), "predictions/bias": array(3)}
    found, note = readings.with_head(readings.find(network(scheme="keras") | own), W)
    assert found["predictions/kernel"].shape == (W, 3) and not note
    dense = {"dense/kernel": array(W, 3), "dense/bias": array(3)}
    for tensors in (network("base/", "keras") | dense, network(scheme="keras") | dense):
        found, note = readings.with_head(readings.find(tensors), W)
        assert list(found) == NETWORKS["keras"]
        assert note == "left out dense: only Keras' own `predictions` is read as a head"


def test_what_is_inside_the_network_stays_for_the_comparison_to_report():
    tensors = network("model.") | {"model.layer1.0.attn.weight": array(1), "model.bn1.x": array(1)}
    assert {"layer1.0.attn.weight", "bn1.x"} <= readings.find(tensors).tensors.keys()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("optimizer/state/0/exp_avg", True),
        ("optimizer_states/0/state/0/exp_avg", True),
        ("lr_scheduler/x", True),
        ("criterion.weight", True),
        ("state_dict/cls_loss.weight", True),
        ("scaler/scale", True),
        ("n_averaged", True),
        ("model/conv1.weight", False),
        ("closs.weight", False),
        ("network.options.weight", False),
    ],
)
def test_state_of_the_training(name, expected):
    assert readings.is_training(name) == expected


@pytest.mark.parametrize("head", ["classifier", "visual_projection"])
def test_the_heads_of_clip_in_transformers_are_left_out(head):
    """Its classifier acts on the mean of the patches, its projection is none."""
    root = "vision_model."
    tensors = {
        f"{root}embeddings.patch_embedding.weight": np.zeros((4, 3, 2, 2)),
        f"{root}pre_layrnorm.weight": np.zeros(4),
        f"{root}embeddings.position_ids": np.arange(2),
        f"{head}.weight": np.zeros((5, 4)),
    }
    reading = readings.find(tensors)
    assert (reading.scheme, set(reading.foreign)) == ("huggingface_clip", {f"{head}.weight"})
    kept, said = readings.with_head(reading, 4)
    assert len(kept) == 2 and not any("classifier" in name for name in kept)
    assert said == f"left out {head}: none is a head on 'pooled'"
    assert readings.described(reading, said) == said
