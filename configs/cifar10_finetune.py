"""CIFAR-10, all of ResNet-50 fine-tuned from ImageNet weights.

  python -m experiments.finetune --config=configs/cifar10_finetune.py

Not run as it is: these weights are not at hand. Published for another supervised ResNet-50 and
SimCLR's recipe: 97.5 % (arXiv:2002.05709, table B.5).

Measured on a part of CIFAR-10 whose images went through one JPEG compression, with the flags

  --config.weights=efficientnet_lite0 --config.data.train='train[:5000]'
  --config.data.test='test[:2000]' --config.preprocess.size=96 --config.train.epochs=8

79.3 % test (95 % interval 77.5-81.0). It took 18 minutes on two busy CPU cores, 8 s of them waiting
for images. With the same network, images and size, the linear probe on its best endpoint gives
77.1 % (75.3-78.8), LP-FT (configs/lpft.py) 83.0 %, and random weights (configs/cifar10_scratch.py)
54.9 %.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.weights = "resnet50.tv1"
    config.data.name = "cifar10"
    config.data.val = "0.1"
    config.preprocess.size = 224
    config.preprocess.geometry = "whole"
    config.preprocess.interpolation = "bicubic"
    config.train.batch_size = 64
    config.train.epochs = 10.0
    config.train.norm_momentum = "kornblith"
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.01
    config.optim.warmup = 0.1
    config.optim.decay = "l2"
    config.optim.weight_decay = 1e-4
    config.augment.crop = "resized"
    config.augment.scale = (0.5, 1.0)
    config.augment.flip = 0.5
    return config
