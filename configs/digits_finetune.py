"""Digits, the whole of EfficientNet-Lite0 fine-tuned, offline: a few minutes on two cores.

python -m experiments.finetune --config=configs/digits_finetune.py
"""

from configs import common


def get_config():
    config = common.get_config()
    config.data.name = "digits"
    config.data.val = "0.1"
    config.preprocess.size = 64
    config.preprocess.geometry = "whole"
    config.preprocess.interpolation = "bicubic"
    config.train.batch_size = 48
    config.train.epochs = 30.0
    config.train.norm_momentum = "kornblith"
    config.train.ema_decay = 0.99
    config.train.label_smoothing = 0.1
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-3
    config.optim.warmup = 0.1
    config.optim.weight_decay = 0.01
    config.augment.shift = 0.1
    config.extract.batch_size = 128
    return config
