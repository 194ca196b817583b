"""BiT-HyperRule: fine-tuning of CIFAR-10, or any other set, with nothing left to choose.

  python -m experiments.finetune --config=configs/bit_hyperrule.py

Kolesnikov et al. 2020, arXiv:1912.11370. Resolution, number of steps, schedule and MixUp follow
from the size of the data and its images (tl/train/hyperrule.py); they are the fields left 0 or
empty below, and a value given on the command line stays. The published rule is for networks with
group normalisation; with batch normalisation, as here, its accuracies are not to be expected.
Not run here at its own size, for which two cores are too slow; --config.train.batch_size=512 is
computed in parts with --config.train.accumulate=8 where memory is short.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.weights = "resnet50.tv1"
    config.data.name = "cifar10"
    config.data.val = "0.02"
    config.train.rule = "bit"
    config.train.head = "zero"
    config.train.batch_size = 512
    config.preprocess.geometry = "whole"  # evaluation: the image squashed to the crop's size
    config.augment.crop = "random"
    config.augment.flip = 0.5
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.003
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.schedule = "step"
    config.optim.boundaries = ()
    config.optim.factor = 0.1
    return config
