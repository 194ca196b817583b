"""CIFAR-10, linear probe on ResNet-50 (torchvision V1), 224 px bicubic.

  python -m experiments.probe --config=configs/cifar10_probe.py

Published for these weights, resolution and solver: 91.47 % (Ericsson et al. 2021, ssl-transfer;
their scikit-learn fit stops early, so a converged one may differ by a few tenths).
"""

from configs import common


def get_config():
    config = common.get_config()
    config.weights = "resnet50.tv1"
    config.data.name = "cifar10"
    config.preprocess.size = 224
    config.preprocess.geometry = "whole"
    config.preprocess.interpolation = "bicubic"
    config.endpoints = ("pooled",)
    return config
