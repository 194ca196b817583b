"""What to train of a network: everything, parts of it, or something beside it? Offline.

  python -m experiments.ablate --config=configs/study_methods.py --workdir=STUDY

What transfer research compares, on the four cases of configs/four_cases.py, with the trained
parameters and the seconds of each. docs/finetune.md defines the methods; `surgical` trains the
first stage (Lee et al. 2023) and `lora` adds to all kernels. Another network is
--config.base.weights=NAME; a vision transformer has no stage1 and no batch normalisation, so its
`surgical` and `norms` fail, and the others are done. CIFAR-10 is looked for as
configs/four_cases.py says; --config.only="('case=small_different','case=large_different')" leaves
it out. With its two seeds it has 80 runs, about three hours on two quiet CPU cores.

Measured in part, on digits with 10 per class and seed 0 (docs/measurements.md): all of it 89.6 %
test, LoRA 88.5, L2-SP 90.8, the last stage 83.2, normalisation 83.1, biases 82.4, LP-FT 82.4, the
first stage 77.2, WiSE-FT 76.8, the final probe 74.5. One seed, chosen on 20 val images, tells no
order.
"""

from ml_collections import ConfigDict

from configs.four_cases import CASES, get_base
from configs.four_cases import METHODS as FOUR
from tl.studies.config import study

# What is added or small trains with larger steps.
FAST = {"optim.learning_rate": 3e-3}

METHODS = {
    "final_probe": FOUR["final_probe"],
    "fine_tune_all": {},
    "last_stage": {"train.freeze": ("earlier",)},
    "surgical": {"train.freeze": ("*", "!stage1", "!head")},
    # All running statistics are among what '*' freezes.
    "biases": {"train.freeze": ("*", "!*/bias", "!head"), "train.norm": "train", **FAST},
    "norms": {
        "train.freeze": ("*", "!*/bn/scale", "!*/bn/bias", "!head"),
        "train.norm": "train",
        **FAST,
    },
    "lora": {"train.lora": ("*",), "train.lora_rank": 4, **FAST},
    "lp_ft": FOUR["lp_ft"],
    "wise_ft": {**FOUR["lp_ft"], "train.wise_ft": True},
    "l2_sp": {"optim.decay": "l2sp"},
}


def get_config() -> ConfigDict:
    return study(
        "What to train of a network: ten methods on the four cases",
        get_base(),
        axes={"case": CASES, "method": METHODS, "seed": (0, 1)},
        columns="method",
    )
