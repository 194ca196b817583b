"""What batch normalisation should do in fine-tuning, by the number of images. Digits, offline.

  python -m experiments.ablate --config=configs/study_batch_norm.py --workdir=STUDY

Its result is not recorded yet. docs/measurements.md has one case: 160 digits.
"""

from ml_collections import ConfigDict

from configs import common
from tl.studies.config import study


def get_config() -> ConfigDict:
    base = common.get_config()
    base.preprocess.size = 32
    base.preprocess.geometry = "whole"
    base.preprocess.interpolation = "bicubic"
    base.extract.batch_size = 128
    base.train.batch_size = 32
    base.train.steps = 120
    base.train.eval_every = 30
    base.train.norm_momentum = "kornblith"  # so that `train` has new statistics within few steps
    base.optim.name = "adamw"
    base.optim.learning_rate = 1e-3
    base.optim.warmup = 0.1
    base.optim.weight_decay = 0.01
    base.augment.shift = 0.1
    return study(
        "Batch normalisation and labelled images: EfficientNet-Lite0 on digits, fine-tuned",
        base,
        axes={
            "norm": ("train", "affine", "frozen", "recalibrate"),
            "examples": (10, 30, 100),
            "seed": (0, 1),
        },
        columns="examples",
    )
