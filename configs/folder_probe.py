"""Your own photographs: one folder for each class, every stage of the network probed.

  python -m experiments.probe --config=configs/folder_probe.py --config.data.data_dir=PHOTOS

PHOTOS/<class>/*.jpg is divided into train and test (20 % of each class) by a seeded rule. Where
there are PHOTOS/train/<class>/ and PHOTOS/test/<class>/ they are used as they are. Images are
prepared as the weights were trained. Any network will do: --config.weights=resnet50.tv1.

Run on test images only, so there is no accuracy to state.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.data.name = "folder"
    config.endpoints = ("earlier", "last", "pooled", "last+pooled")
    return config
