import shlex
from pathlib import Path

import pytest

from configs import common, lpft, quickstart
from tests.parsing import parse
from tl.advice import command, rule

PROBE = rule.Choice(rule.EARLIER_PROBE, "stage3+stage4", 0.9, 0.8, 0.95)
FINE_TUNE = rule.Choice(rule.FINE_TUNE, "", 0.9, 0.8, 0.95)


def changed(config, choice, num_train=1000, similar=False, stored=()):
    wanted = config.copy_and_resolve_references()
    wanted.update_from_flattened_dict(command.changes(choice, config, num_train, similar, stored))
    return wanted


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
    text = command.command(choice, file, base, wanted, Path("runs/next one"))
    arguments = shlex.split(text)
    module = "experiments.probe" if choice is PROBE else "experiments.finetune"
    assert arguments[1:4] == ["-m", module, f"--config={file}"]
    assert arguments[-1] == "--workdir=runs/next one"
    assert parse(arguments[3:-1]).to_dict() == wanted.to_dict()


def test_only_what_differs_becomes_a_flag():
    wanted = changed(quickstart.get_config(), PROBE)
    text = command.command(
        PROBE, "configs/quickstart.py", quickstart.get_config(), wanted, Path("r")
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
    assert (wanted.seeds, wanted.data.examples_per_class) == ((3,), (0,))
    assert (wanted.train.freeze, wanted.train.steps) == ((), 0)
    assert (wanted.train.accumulate, wanted.train.eval_every) == (1, 0)
    assert wanted.optim.multipliers == ()
    assert (wanted.train.head, wanted.train.epochs) == ("zero", 6.0)
    assert (wanted.augment.flip, wanted.train.batch_size) == (0.5, 48)
    other = changed(config, FINE_TUNE, num_train=100)
    assert (other.train.head, other.train.epochs) == ("zero", 30.0)
    assert (other.augment.flip, other.train.batch_size) == (0.0, 16)  # a digit has no mirror image


def test_pooling_that_is_too_wide():
    config = common.get_config()
    config.extract.pooling = "none"
    assert changed(config, PROBE).extract.pooling == "mean"


def test_seconds():
    config = changed(common.get_config(), FINE_TUNE)
    counts = {"train": 1000, "sources": 4000, "test": 200}  # few-shot: a store has all
    fields = {"counts": counts, "width": 100, "images_per_second": 50.0}
    known = {"backbone": "resnet50", "stored": False, **fields}
    # 25 epochs at six times the features' cost, and the test images once.
    assert command.seconds(FINE_TUNE, config, **known) == pytest.approx(30 + (25 * 6000 + 200) / 50)
    probe = command.seconds(PROBE, config, **known)
    fit = 2e-6 * 1000 * 100 * 4.5
    assert probe == pytest.approx(8 + 4200 / 50 + fit)
    known["stored"] = True
    assert command.seconds(PROBE, config, **known) == pytest.approx(probe - 80)
