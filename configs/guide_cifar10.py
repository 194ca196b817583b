"""The guide's recipe to the letter: Keras' ResNet50 as a fixed extractor for CIFAR-10.

  python -m experiments.probe --config=configs/guide_cifar10.py

Bottleneck features of every image at 200 x 200, saved and averaged over space; then dropout 0.3
and a softmax layer, Adam, batch 32, 10 epochs, 20 % of train for validation, the best epoch kept.
No published number for this recipe is known to us.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.weights = "resnet50.keras_notop"
    config.data.name = "cifar10"
    config.data.val = "0.2"
    config.preprocess.size = 200
    config.preprocess.geometry = "whole"
    config.preprocess.interpolation = "bilinear"
    config.endpoints = ("pooled",)
    config.probe.solvers = ("head",)
    config.probe.dropout = 0.3
    config.probe.batch_size = 32
    config.probe.epochs = 10
    config.probe.learning_rate = 1e-3
    return config
