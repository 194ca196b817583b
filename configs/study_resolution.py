"""How large small images should be made, and by which interpolation. Digits, offline.

  python -m experiments.ablate --config=configs/study_resolution.py --workdir=STUDY

Digits are 8 px; all above that is interpolated. EfficientNet-Lite0 was trained at 224 px.

Measured at 20 per class, mean of 3 seeds, a few minutes on two CPU cores: stage5 hardly depends on
the size, bicubic gives 97.4 to 97.8 % test from 32 to 128 px; nearest costs 4 points. The final
features have 75.7 % at 32 px and 85.2 % at 96 px.
"""

from ml_collections import ConfigDict

from configs import common
from tl.studies.config import study


def get_config() -> ConfigDict:
    base = common.get_config()
    base.data.examples_per_class = (20,)
    base.preprocess.geometry = "whole"
    base.extract.pooling = "grid2"
    base.extract.batch_size = 128
    base.probe.l2 = tuple(10.0**i for i in range(-6, 6))
    return study(
        "Image size and interpolation: EfficientNet-Lite0 on digits, 20 a class",
        base,
        run="probe",
        axes={
            "endpoint": ("stage5", "pooled"),
            "interpolation": ("nearest", "bilinear", "bicubic"),
            "resolution": (32, 64, 96, 128),
            "seed": (0, 1, 2),
        },
        columns="resolution",
    )
