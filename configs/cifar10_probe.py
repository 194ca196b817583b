"""CIFAR-10, linear probe on ResNet-50 (torchvision V1), 224 px bicubic.

  python -m experiments.probe --config=configs/cifar10_probe.py

Published for these weights, resolution and solver: 91.47 % (Ericsson et al. 2021, ssl-transfer;
their scikit-learn fit stops early, so a converged one may differ by a few tenths). Not run here:
these weights are not at hand.

Measured here with --config.weights=efficientnet_lite0 on images that went through one JPEG
compression, so a little under what the original PNGs give; one seed, two CPU cores:

train / test     px   stage6  pooled  stage6+stage7+pooled
5,000 / 2,000    128    77.5    76.6    79.0 %   2 minutes
50,000 / 10,000  112    77.9    77.6    80.3 %   12 minutes (95 % interval 79.5-81.1)

for which --config.endpoints="('stage6','pooled','stage6+stage7+pooled')", the splits
--config.data.train='train[:5000]' and --config.data.test='test[:2000]', and
--config.preprocess.size=128.
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
