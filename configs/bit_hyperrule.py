"""BiT-HyperRule: fine-tuning with nothing left to choose.

  python -m experiments.finetune --config=configs/bit_hyperrule.py

Kolesnikov et al. 2020, arXiv:1912.11370. Resolution, number of steps, schedule and MixUp are set
from the size of the data and of its images (tl/train/hyperrule.py). They are the fields that are 0
or empty below; a value given on the command line stays.

The published rule is for networks with group normalisation. With batch normalisation, as here, do
not expect the published accuracies. Where memory is short, --config.train.accumulate=8 computes the
512 images of a batch in parts.

Not run: two CPU cores are too slow for it.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
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
