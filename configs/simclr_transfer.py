"""SimCLR's recipe for transfer by fine-tuning (arXiv:2002.05709, appendix B.8).

  python -m experiments.finetune --config=configs/simclr_transfer.py --config.data.name=food101

20,000 steps of 256 images, SGD with Nesterov momentum 0.9, random resized crops and flips, batch
statistics with momentum max(1 - 10 / steps per epoch, 0.9), tested on the centre crop of 224 px of
256.

The paper chooses on val among 7 learning rates from 1e-4 to 1e-1, and among no weight decay and 7
from 1e-6 to 1e-3, each divided by the learning rate. Here they are 0.01 and 1e-4, in the middle.
The paper names no schedule; here it is cosine.

Published for ResNet-50 trained on ImageNet with the paper's stronger augmentation: CIFAR-10 97.5 %,
CIFAR-100 86.4 %, Food 88.3 %. Not run: neither these weights nor the time are at hand.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.weights = "resnet50.tv1"
    config.data.name = "cifar10"
    config.data.val = "0.1"
    config.preprocess.size = 224
    config.preprocess.crop_pct = 0.875
    config.preprocess.geometry = "resize_crop"
    config.preprocess.interpolation = "bicubic"
    config.train.steps = 20_000
    config.train.batch_size = 256
    config.train.norm_momentum = "kornblith"
    config.train.eval_every = 1000
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.01
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.decay = "l2"
    config.optim.weight_decay = 1e-4 / 0.01
    config.augment.crop = "resized"
    config.augment.flip = 0.5
    return config
