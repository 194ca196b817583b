"""LP-FT: first the linear probe, then everything moves from its solution (arXiv:2202.10054).

  python -m experiments.finetune --config=configs/lpft.py

Kumar et al. 2022: a head that starts at zero or at random first spoils the features that it is
trained on; one that starts as the probe does not, which shows most on images unlike the training
set. The probe is fitted on stored features with its strength chosen on val. Batch normalisation
keeps its statistics, so that the first step sees the very features the probe was fitted on.

Measured here on 5,000 images of train, 2,000 of test (--config.data.train='train[:5000]' and so on)
at --config.preprocess.size=96, --config.train.epochs=4, JPEG once: 83.0 % test (95 % interval
81.3-84.5); the probe it starts from has 75.7 % on val.
"""

from configs import common


def get_config():
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
