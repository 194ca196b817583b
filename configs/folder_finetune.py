"""Your own photographs, the whole network fine-tuned.

  python -m experiments.finetune --config=configs/folder_finetune.py --config.data.data_dir=PHOTOS

PHOTOS is laid out as for configs/folder_probe.py. The head starts as the probe (LP-FT), so that few
images give no less than the probe but for the luck of val. With few, first see what the probe
gives, or freeze the first stages: --config.train.freeze="('stem','stage1','stage2')". Another
network: --config.weights=resnet50.tv1.

Measured with 10 images a class, 50 steps, one seed: CIFAR-10 57.0 % test, where a head that starts
from zero gives 37.8 %; digits 70.1 and 47.6 %. docs/measurements.md has more.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.data.name = "folder"
    config.train.head = "probe"
    config.train.norm = "affine"  # the features that the probe was fitted on
    config.train.epochs = 20.0
    config.train.min_steps = 50
    config.train.label_smoothing = 0.1
    config.train.patience = 8
    config.optim.name = "adamw"
    config.optim.learning_rate = 3e-4
    config.optim.warmup = 0.1
    config.optim.weight_decay = 0.02
    config.augment.crop = "resized"
    config.augment.scale = (0.35, 1.0)
    config.augment.flip = 0.5
    config.augment.policy = "trivialaugment"
    return config
