import numpy as np
import pytest

from configs import common
from tl.errors import UserError
from tl.runs import cost
from tl.runs.cost import Cost, Images, Speed, cost_of, time_of

# As digits: ten classes of a hundred, 8 px.
DIGITS = Images({"train": 1000, "test": 797}, np.arange(1000) % 10, (8, 8, 3))
TUNE = {"train.batch_size": 16, "train.steps": 150, "train.eval_every": 40, "preprocess.size": 64}


def config(**fields):
    values = common.get_config()
    values.data.examples_per_class = (10,)
    values.update_from_flattened_dict(fields)
    return values


def test_a_fine_tuning_run():
    # 80 images to train on and 20 to choose on, at step 0, 40, 80, 120 and 150; 797 to test on.
    found = cost_of("finetune", config(**TUNE), DIGITS)
    assert found == Cost(steps=150, trained=2400, evaluated=5 * 20 + 797, extracted=0, size=64)
    assert found.work() == 64**2 * (1 + 3 * 2400 + 897)
    assert found.work(step=12) == 64**2 * (1 + 12 * 2400 + 897)


def test_epochs_and_lp_ft():
    fields = {"train.batch_size": 16, "train.epochs": 3.0, "train.head": "probe"}
    # Five steps an epoch; the images are as large as the weights say.
    expected = Cost(steps=15, trained=240, evaluated=4 * 20 + 797, extracted=1797, size=224)
    assert cost_of("finetune", config(**fields), DIGITS) == expected


def test_a_frozen_prefix_is_extracted():
    fields = {"train.cache_prefix": True, "train.freeze": ("stem",)}
    assert cost_of("finetune", config(**TUNE, **fields), DIGITS).extracted == 1797


def test_a_val_split_of_its_own():
    images = Images({"train": 1000, "val": 300, "test": 797}, DIGITS.labels, (8, 8, 3))
    found = cost_of("finetune", config(**TUNE), images)
    assert found.evaluated == 5 * 300 + 797
    # 3 seeds, 2 strengths, 7 features, 100 + 300 rows.
    fields = {"probe.l2": (0.1, 1.0), "seeds": (0, 1, 2), "data.examples_per_class": (5, 10)}
    assert cost_of("probe", config(**fields), images, width=7).fit == 3 * 2 * 7 * 400


def test_folds():
    # 3 seeds, 2 strengths, 7 features, 100 rows, of which four folds fit 75 each.
    fields = {"probe.l2": (0.1, 1.0), "seeds": (0, 1, 2), "data.val": "4fold"}
    assert cost_of("probe", config(**fields), DIGITS, width=7).fit == 3 * 2 * 7 * 4 * 75
    with pytest.raises(UserError, match=r"^data\.val: fine-tuning has no folds"):
        cost_of("finetune", config(**{"data.val": "4fold"}, **TUNE), DIGITS)


def test_a_rule_chooses_the_size():
    fields = {"train.rule": "bit", "train.batch_size": 16, "train.steps": 10}
    # Digits are 8 px: BiT-HyperRule takes 128 of 160 for images below 96.
    assert cost_of("finetune", config(**fields), DIGITS).size == 128


def test_a_probe_extracts_every_image_that_is_not_stored():
    values = config(**{"preprocess.size": 32})
    assert cost_of("probe", values, DIGITS) == Cost(0, 0, 0, extracted=1797, size=32)
    assert cost_of("probe", values, DIGITS, stored=("train",)).extracted == 797


def test_the_size_of_the_images():
    assert cost_of("probe", config(weights="resnet50.tv1"), DIGITS).size == 224
    assert cost_of("probe", config(weights="/some/file"), DIGITS).size == cost.USUAL_SIZE
    like = {"weights": "/some/file", "weights_like": "resnet50.a3"}
    assert cost_of("probe", config(**like), DIGITS).size == 160
    assert cost_of("probe", config(weights="/some/file"), DIGITS, size=96).size == 96


def test_a_fine_tuning_run_has_one_seed():
    with pytest.raises(UserError, match=r"^seeds: fine-tuning takes one"):
        cost_of("finetune", config(**TUNE, seeds=(0, 1)), DIGITS)


def test_time_by_hand():
    # 10 px: (1 + 4 * 5 + 6 + 7) * 100 pixels, 1,000 a second; a second at first, 3 of fitting.
    found = time_of(
        Cost(steps=2, trained=5, evaluated=6, extracted=7, size=10, fit=30.0),
        Speed(pixels=1000.0, step=4.0, start=1.0, fit=0.1),
    )
    assert found == pytest.approx(1 + 3.4 + 3)


def test_a_step_is_slower_than_its_passes_on_a_cpu(monkeypatch):
    lite = cost.measured("finetune", "efficientnet_lite0", 50.0, 10)
    assert lite == Speed(pixels=5000.0, step=12.0, start=30.0, fit=2e-7)
    assert cost.measured("probe", "resnet18", 50.0, 10).step == 6.0
    monkeypatch.setattr(cost.devices, "is_cpu", lambda: False)
    assert cost.measured("finetune", "efficientnet_lite0", 50.0, 10).step == 3.0
