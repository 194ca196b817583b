r"""Top-1 and top-5 of a weight set on ImageNet, as published, or on a folder with its classes.

  python -m experiments.evaluate --config=configs/imagenet_eval.py --config.weights=resnet50.tv1
  python -m experiments.evaluate --config=configs/imagenet_eval.py \
      --config.data.name=folder --config.data.data_dir=IMAGES --config.data.test=

A folder's classes are ImageNet's by WordNet id (n01440764) or by name (tench).

Not run on ImageNet, which is not at hand.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.data.name = "imagenet2012"
    config.data.test = "validation"
    config.data.download = False  # TFDS needs the archives from image-net.org by hand
    config.endpoints = ("logits",)
    return config
