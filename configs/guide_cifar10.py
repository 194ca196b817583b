"""The guide's recipe to the letter: Keras' ResNet50 as a fixed feature extractor for CIFAR-10.

  python -m experiments.probe --config=configs/guide_cifar10.py

Features of every image at 200 x 200 px, stored, averaged over space. Then dropout 0.3 and a softmax
layer, Adam, batches of 32, 10 epochs, 20 % of train for validation, the best epoch kept.

Not run as it is: these weights are not at hand. No published number for this recipe is known to us.

Measured with --config.weights=efficientnet_lite0 --config.preprocess.size=112
--config.preprocess.interpolation=bicubic on images that went through one JPEG compression: 76.4 %
test (95 % interval 75.5-77.2), epoch 8 kept. The head takes 6 s on two CPU cores. Logistic
regression on the same features gives 77.6 %.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.weights = "resnet50.keras_notop"
    config.data.name = "cifar10"
    config.data.val = "0.2"
    config.preprocess.size = 200
    config.preprocess.geometry = "whole"
    config.preprocess.interpolation = "bilinear"
    config.endpoints = ("pooled",)
    config.extract.batch_size = 32  # as in Keras' predict; on a CPU as fast as 64, in less memory
    config.probe.solvers = ("head",)
    config.probe.dropout = 0.3
    config.probe.batch_size = 32
    config.probe.epochs = 10
    config.probe.learning_rate = 1e-3
    return config
