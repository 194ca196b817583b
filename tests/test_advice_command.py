import shlex
from pathlib import Path

import numpy as np
import pytest

from configs import common, lpft, quickstart
from tests.parsing import parse
from tl.advice import command, rule
from tl.fields import flat
from tl.runs import cost

PROBE = rule.Choice(rule.EARLIER_PROBE, "stage3+stage4", 0.9, 0.8, 0.95)
FINE_TUNE = rule.Choice(rule.FINE_TUNE, "", 0.9, 0.8, 0.95)


def changed(config, choice, num_train=1000, similar=False, stored=(), batch_stats=True):
    fields = flat(config)
    return fields | command.changes(choice, fields, num_train, similar, stored, batch_stats)


@pytest.mark.parametrize("choice", [PROBE, FINE_TUNE], ids=lambda choice: choice.method)
@pytest.mark.parametrize("name", ["quickstart", "lpft", "bit_hyperrule", "folder_probe"])
def test_the_command_says_what_is_wanted(choice, name):
    file = f"configs/{name}.py"
    base = __import__(f"configs.{name}", fromlist=["get_config"]).get_config()
    given = base.copy_and_resolve_references()
    given.data.data_dir = "/my data/it's here"
    given.data.download = False
    given.preprocess.crop_pct = 0.875
    given.data.train = "train[:80%]"
    wanted = changed(given, choice, stored=("stem", "pooled") if choice is PROBE else ())
    text = command.command(choice, file, flat(base), wanted, Path("runs/next one"))
    arguments = shlex.split(text)
    module = "experiments.probe" if choice is PROBE else "experiments.finetune"
    assert arguments[1:4] == ["-m", module, f"--config={file}"]
    assert arguments[-1] == "--workdir=runs/next one"
    assert flat(parse(arguments[3:-1])) == wanted


def test_only_what_differs_becomes_a_flag():
    wanted = changed(quickstart.get_config(), PROBE)
    text = command.command(
        PROBE, "configs/quickstart.py", flat(quickstart.get_config()), wanted, Path("r")
    )
    assert text.split(" ", 1)[1] == (
        "-m experiments.probe --config=configs/quickstart.py "
        "'--config.data.examples_per_class=(100,)' \"--config.endpoints=('stage3+stage4',)\" "
        "--workdir=r"
    )


def test_fine_tuning_takes_one_seed_the_most_examples_and_no_leftovers():
    config = lpft.get_config()
    config.seeds = (3, 4)
    config.data.examples_per_class = (5, 0, 10)
    config.train.freeze = ("stem",)
    config.train.steps = 7
    config.train.accumulate = 5
    config.train.eval_every = 1000
    config.optim.multipliers = ("stem=0.1",)
    wanted = changed(config, FINE_TUNE, num_train=4500, similar=True)
    assert (wanted["seeds"], wanted["data.examples_per_class"]) == ((3,), (0,))
    assert (wanted["train.freeze"], wanted["train.steps"]) == ((), 0)
    assert (wanted["train.accumulate"], wanted["train.eval_every"]) == (1, 0)
    assert wanted["optim.multipliers"] == ()
    assert (wanted["train.head"], wanted["train.epochs"]) == ("zero", 6.0)
    assert (wanted["augment.flip"], wanted["train.batch_size"]) == (0.5, 48)
    other = changed(config, FINE_TUNE, num_train=100)
    assert (other["train.head"], other["train.epochs"]) == ("zero", 30.0)
    # A digit has no mirror image.
    assert (other["augment.flip"], other["train.batch_size"]) == (0.0, 16)


def test_batch_normalisation_is_frozen_where_there_is_any():
    assert changed(common.get_config(), FINE_TUNE)["train.norm"] == "frozen"
    config = lpft.get_config()
    assert config.train.norm == "affine"
    assert changed(config, FINE_TUNE, batch_stats=False)["train.norm"] == "train"


def test_pooling_that_is_too_wide():
    config = common.get_config()
    config.extract.pooling = "none"
    assert changed(config, PROBE)["extract.pooling"] == "mean"


def test_seconds():
    # 1,000 images of two classes, 200 of them held out as val, and 200 to test on.
    images = cost.Images({"train": 1000, "test": 200}, np.arange(1000) % 2, None)
    known = {"backbone": "resnet50", "size": 64, "images_per_second": 50.0}
    wanted = changed(common.get_config(), FINE_TUNE)
    # 25 epochs of 800 images are 417 steps of 48, each as long as 6 passes of its images; val is
    # evaluated before the first step and after every 17 of them, the last time after the end.
    passes = 6 * 417 * 48 + (1 + 25) * 200 + 200
    found = command.seconds(FINE_TUNE, wanted, images, width=0, stored=(), **known)
    assert found == pytest.approx(30 + (passes + 1) / 50)
    wanted = changed(common.get_config(), PROBE)
    probe = command.seconds(PROBE, wanted, images, width=100, stored=(), **known)
    # 45 strengths; a probe is refitted to train and val.
    assert probe == pytest.approx(8 + 1201 / 50 + 2e-7 * 1000 * 100 * 45)
    again = command.seconds(PROBE, wanted, images, width=100, stored=("train",), **known)
    assert again == pytest.approx(probe - 1000 / 50)
