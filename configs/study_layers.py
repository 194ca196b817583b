"""Which layer to probe, and does it depend on the number of labelled images? Digits, offline.

  python -m experiments.ablate --config=configs/study_layers.py --workdir=STUDY

Measured at 5, 20 and 100 per class with --config.axes.seed='(0,1,2)', a few minutes on two CPU
cores, mean of the 3 seeds: stage5 is best, with 92.3, 97.5 and 99.2 % test, within noise of stage 4
or 3. The final features have 64.2, 83.2 and 92.7 %. It has five seeds now, so that its claims are
judged over seeds and images.
"""

from ml_collections import ConfigDict

from configs import common
from tl.studies.config import study


def get_config() -> ConfigDict:
    base = common.get_config()
    base.preprocess.size = 64
    base.preprocess.geometry = "whole"
    base.preprocess.interpolation = "bicubic"
    base.extract.pooling = "grid2"
    base.extract.batch_size = 128
    base.probe.l2 = tuple(10.0**i for i in range(-6, 6))
    return study(
        "Layer and labelled images: EfficientNet-Lite0 on digits",
        base,
        run="probe",
        axes={
            "examples": (5, 20, 100),
            "endpoint": ("stem", *(f"stage{i}" for i in range(1, 8)), "pooled"),
            "seed": (0, 1, 2, 3, 4),
        },
        columns="endpoint",
        claims=[
            {
                "text": f"at {examples} images a class stage5 is the best layer",
                "where": {"examples": examples},
                "advised": {"endpoint": "stage5"},
            }
            for examples in (5, 20, 100)
        ],
    )
