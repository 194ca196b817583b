"""Your own photographs: a folder a class, every stage of the network probed.

  python -m experiments.probe --config=configs/folder_probe.py --config.data.data_dir=PHOTOS

PHOTOS/<class>/*.jpg is divided into train and test (20 %) by a seeded, stratified rule; where there
are PHOTOS/train/<class>/ and PHOTOS/test/<class>/ they are used as they are. Preprocessing is what
belongs to the weights; another set: --config.weights=resnet50.tv1 and so on.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.data.name = "folder"
    config.endpoints = (
        "stage4",
        "stage5",
        "stage6",
        "stage7",
        "pooled",
        "stage6+stage7",
        "stage6+pooled",
    )
    return config
