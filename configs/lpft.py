"""LP-FT on CIFAR-10: first the linear probe, then everything trains from its solution.

  python -m experiments.finetune --config=configs/lpft.py

Kumar et al. 2022, arXiv:2202.10054: a head that starts at zero or at random first spoils the
features it is trained on; one that starts as the probe does not. This shows most on images unlike
those of the pre-training. The probe is fitted on stored features, its strength chosen on val. Batch
normalisation keeps its statistics, so the first step sees the features that the probe was fitted
on.

Measured with --config.data.train='train[:5000]' --config.data.test='test[:2000]'
--config.preprocess.size=96 --config.train.epochs=4 on images that went through one JPEG
compression: 83.0 % test (95 % interval 81.3-84.5). The probe it starts from has 75.7 % on val.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.data.name = "cifar10"
    config.data.val = "0.1"
    config.preprocess.size = 112
    config.preprocess.geometry = "whole"
    config.preprocess.interpolation = "bicubic"
    config.train.head = "probe"
    config.train.norm = "affine"
    config.train.epochs = 5.0
    config.train.batch_size = 64
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-4
    config.optim.warmup = 0.1
    config.optim.weight_decay = 0.01
    config.augment.flip = 0.5
    return config
