"""Do solvers of a probe agree on the same features? Digits, offline.

python -m experiments.ablate --config=configs/study_solvers.py --workdir=STUDY
"""

from configs import common
from tl.studies.config import study


def get_config():
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
