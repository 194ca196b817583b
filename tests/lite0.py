"""Runs of EfficientNet-Lite0, the one real network at hand, on digits and on a few images."""

import numpy as np
from PIL import Image

from configs import common
from tl.runs import workdir


def config(features, **fields):
    """Returns a probe of three endpoints, two numbers of examples, two seeds; fields are dotted."""
    values = common.get_config()
    values.preprocess.size = 32
    values.preprocess.geometry = "whole"
    values.endpoints = ("pixels", "stage2", "stage2+stage3")
    values.data.examples_per_class = (5, 10)
    values.seeds = (3, 4)
    values.probe.l2 = (1e-3, 1e-1, 1e1)
    values.extract.feature_dir = features
    values.report = False
    values.update_from_flattened_dict(fields)
    return values


def run(job, values, path):
    """Returns what a run in a folder gives, and all it says."""
    lines = []
    workdir.start(values, str(path), "test")
    return job(values, path, lines.append), "\n".join(map(str, lines))


def photographs(root, splits):
    """Returns the fields of a folder of two classes, bright and dark, n images a class."""
    rng = np.random.default_rng(0)
    for split, n in splits.items():
        for name, low in (("bright", 128), ("dark", 0)):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(low, low + 128, (9, 8 + i, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return {
        "data.name": "folder",
        "data.data_dir": str(root),
        "data.examples_per_class": (0,),
        "endpoints": ("stem",),
        "seeds": (0,),
    }
