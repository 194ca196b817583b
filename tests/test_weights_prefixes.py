import pytest

from tl.errors import UserError
from tl.weights import prefixes

# What each project's checkpoint holds beside a backbone's conv1.weight.
CHECKPOINTS = {
    "checkpoint": ("state_dict/module.", ["optimizer/state/0/momentum_buffer"]),
    "moco": (
        "state_dict/module.encoder_q.",
        [
            "state_dict/module.encoder_q.fc.0.weight",
            "state_dict/module.encoder_k.conv1.weight",
            "state_dict/module.queue",
            "state_dict/module.queue_ptr",
            "optimizer/state/0/momentum_buffer",
        ],
    ),
    "moco_v3": (
        "state_dict/module.base_encoder.",
        [
            "state_dict/module.base_encoder.fc.0.weight",
            "state_dict/module.momentum_encoder.conv1.weight",
            "state_dict/module.predictor.0.weight",
        ],
    ),
    "dino": (
        "teacher/backbone.",
        ["teacher/head.mlp.0.weight", "student/module.backbone.conv1.weight", "dino_loss/center"],
    ),
    "swav": ("module.", ["module.projection_head.0.weight", "module.prototypes.weight"]),
    "barlow_twins": (
        "model/module.backbone.",
        ["model/module.projector.0.weight", "model/module.bn.running_mean"],
    ),
    "simclr": ("state_dict/backbone.", ["state_dict/backbone.fc.0.weight"]),
}


def test_every_rule_is_tested():
    assert CHECKPOINTS.keys() == prefixes.PREFIXES.keys()


@pytest.mark.parametrize("rule", CHECKPOINTS)
def test_a_rule_keeps_the_backbone_and_drops_what_it_names(rule):
    prefix, others = CHECKPOINTS[rule]
    tensors = {f"{prefix}conv1.weight": 1, f"{prefix}layer4.2.bn3.bias": 2}
    tensors |= dict.fromkeys(others, 3)
    assert prefixes.strip(tensors, rule) == {"conv1.weight": 1, "layer4.2.bn3.bias": 2}


def test_what_a_rule_does_not_name_stays_for_the_comparison_to_report():
    tensors = {"module.conv1.weight": 1, "surprise": 2}
    assert prefixes.strip(tensors, "swav") == {"conv1.weight": 1, "surprise": 2}


def test_the_wrong_rule_says_what_it_expects():
    with pytest.raises(UserError, match=r"'simclr' expects.*backbone.*'module\.conv1\.weight'"):
        prefixes.strip({"module.conv1.weight": 1}, "simclr")


def test_an_unknown_rule_lists_the_near_ones():
    with pytest.raises(UserError, match="'moco_v2'; the nearest are 'moco_v3', 'moco'"):
        prefixes.strip({}, "moco_v2")


def test_two_tensors_of_one_name_are_refused():
    with pytest.raises(UserError, match=r"two tensors the name 'conv1\.weight'"):
        prefixes.strip({"module.conv1.weight": 1, "conv1.weight": 2}, "swav")
