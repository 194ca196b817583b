"""Do the solvers of a probe agree on the same features? Digits, offline.

  python -m experiments.ablate --config=configs/study_solvers.py --workdir=STUDY

Measured at 5, 20 and 100 per class, mean of 3 seeds, test accuracy, a few minutes on two CPU cores:

logistic           92.3  97.5  99.2 %
ridge              92.2  96.2  99.3 %
knn                87.2  95.5  99.0 %
head               36.8  83.6  96.9 %   the Keras recipe: 10 epochs of few images are few steps
"""

from ml_collections import ConfigDict

from configs import common
from tl.studies.config import study


def get_config() -> ConfigDict:
    base = common.get_config()
    base.preprocess.size = 64
    base.preprocess.geometry = "whole"
    base.preprocess.interpolation = "bicubic"
    base.endpoints = ("stage5",)
    base.extract.pooling = "grid2"
    base.extract.batch_size = 128
    base.probe.l2 = tuple(10.0**i for i in range(-6, 6))
    return study(
        "Solvers of a probe on stage5 of EfficientNet-Lite0, digits",
        base,
        run="probe",
        axes={
            "solver": ("logistic", "ridge", "knn", "head"),
            "examples": (5, 20, 100),
            "seed": (0, 1, 2),
        },
        columns="examples",
    )
