"""Your own photographs, the whole network fine-tuned.

  python -m experiments.finetune --config=configs/folder_finetune.py --config.data.data_dir=PHOTOS

PHOTOS is laid out as for configs/folder_probe.py. With few images, first see what the probe gives,
or freeze the first stages: --config.train.freeze="('stem','stage1','stage2')". Another network:
--config.weights=resnet50.tv1.

Run on test images only, so there is no accuracy to state.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.data.name = "folder"
    config.train.epochs = 20.0
    config.train.norm_momentum = "kornblith"
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
