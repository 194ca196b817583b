"""CIFAR-10, linear probe on the final features of ResNet-50 (torchvision V1) at 224 px.

  python -m experiments.probe --config=configs/cifar10_probe.py

Not run as it is: these weights are not at hand. Published for these weights, resolution and solver:
91.47 % (Ericsson et al. 2021, ssl-transfer). Their scikit-learn fit stops early, so a converged one
may differ by a few tenths.

Measured with --config.weights=efficientnet_lite0 on images that went through one JPEG compression;
one seed, two CPU cores, before the code became faster:

train / test     px   stage6  pooled  stage6+stage7+pooled
5,000 / 2,000    128    77.5    76.6    79.0 %   2 minutes
50,000 / 10,000  112    77.9    77.6    80.3 %   12 minutes (95 % interval 79.5-81.1)

The flags: --config.endpoints="('stage6','pooled','stage6+stage7+pooled')", the size such as
--config.preprocess.size=128, and for the first row --config.data.train='train[:5000]' and
--config.data.test='test[:2000]'.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.weights = "resnet50.tv1"
    config.data.name = "cifar10"
    config.preprocess.size = 224
    config.preprocess.geometry = "whole"
    config.preprocess.interpolation = "bicubic"
    config.endpoints = ("pooled",)
    return config
