"""CIFAR-10 from random initialisation, all else as in cifar10_finetune: what the weights are worth.

python -m experiments.finetune --config=configs/cifar10_scratch.py
"""

from configs import cifar10_finetune


def get_config():
    config = cifar10_finetune.get_config()
    config.train.start = "random"
    config.train.head = "random"
    config.optim.learning_rate = 0.05  # a network that knows nothing bears larger steps
    return config
