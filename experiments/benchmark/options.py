"""What a benchmark measures, checked before anything runs."""

import dataclasses
from collections.abc import Collection
from typing import Any

from tl.errors import UserError, nearest

SECTIONS = ("features", "train", "probe", "pipeline", "startup")
GPU_PARTS = ("features", "train", "trace", "arrays", "files", "probe")
GPU_DTYPES = ("float32", "tfloat32", "bfloat16")
GPU_MODES = ("reduce-overhead", "max-autotune")
PEERS = ("flax", "keras", "torch", "onnxruntime", "sklearn")


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of `experiments.benchmark`, which say what each means, and three configs.

    Attributes:
      train_config: `configs/common.py`, of which the section `train` builds its step.
      guide_config: `configs/guide_cifar10.py`.
      quickstart: path of the config that the section `startup` runs.

    Raises:
      UserError: a name that is unknown, or a number out of its range.
    """

    train_config: Any
    guide_config: Any
    quickstart: str
    sections: tuple[str, ...] = SECTIONS
    backbone: str = "resnet50"
    sizes: tuple[int, ...] = (64, 112)
    train_sizes: tuple[int, ...] = (64,)
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    batch_size: int = 0
    peers: tuple[str, ...] = PEERS
    rounds: int = 5
    seconds: float = 1.0
    limit_side: int = 4096
    probe_rows: int = 5000
    probe_features: int = 1280
    probe_classes: int = 10
    probe_strength: float = 1e-3
    probe_grid: bool = True
    probe_doublings: int = 0
    pipeline_size: int = 64
    images: tuple[int, ...] = (500, 1000, 2000)
    devices: tuple[int, ...] = (1, 2, 4, 8)
    data_dir: str = ""
    memory_backbones: tuple[str, ...] = ("resnet50", "vit_small_patch16")
    memory_size: int = 224
    memory_batch: int = 32
    gpu_parts: tuple[str, ...] = GPU_PARTS
    gpu_backbones: tuple[str, ...] = ("resnet50", "efficientnet_lite0")
    gpu_dtypes: tuple[str, ...] = GPU_DTYPES
    gpu_batches: tuple[int, ...] = (64, 256, 1024)
    gpu_train_batches: tuple[int, ...] = (64, 256)
    gpu_compiled_batches: tuple[int, ...] = (256,)
    gpu_modes: tuple[str, ...] = GPU_MODES
    gpu_images: int = 16384
    guide: bool = False
    guide_images: int = 2000

    def __post_init__(self) -> None:
        # They import JAX, which a misspelt flag and the processes of peers need not wait for.
        from tl.features.network import DTYPES
        from tl.models import registry

        registry.get(self.backbone)
        for flag, known in {
            "sections": (*SECTIONS, "memory", "gpu"), "dtypes": DTYPES, "peers": PEERS,
            "gpu_parts": GPU_PARTS, "gpu_backbones": registry.names(), "gpu_dtypes": GPU_DTYPES,
            "gpu_modes": GPU_MODES, "memory_backbones": registry.names(),
        }.items():  # fmt: skip
            _check_names(flag, getattr(self, flag), known)
        for flag, low in {
            "sizes": 1, "train_sizes": 1, "batch_size": 0, "rounds": 1, "seconds": 0,
            "limit_side": 1, "probe_rows": 1, "probe_features": 1, "probe_classes": 2,
            "probe_strength": 0, "probe_doublings": 0,
            "pipeline_size": 1, "images": 1, "devices": 1, "guide_images": 10, "memory_size": 1,
            "memory_batch": 1,
            "gpu_batches": 1, "gpu_train_batches": 1, "gpu_compiled_batches": 1, "gpu_images": 1,
        }.items():  # fmt: skip
            value = getattr(self, flag)
            values = value if isinstance(value, tuple) else (value,)
            if not values or not all(v >= low for v in values):  # so that NaN fails
                raise UserError(f"expected --{flag} of at least {low}, got {_shown(value)}")
        if self.probe_rows < 10 * self.probe_classes:
            raise UserError(
                f"expected --probe_rows of at least 10 a class, {10 * self.probe_classes}, got "
                f"{self.probe_rows}"
            )
        if self.guide and not self.data_dir:
            raise UserError("--guide needs CIFAR-10: give --data_dir=FOLDER, where TFDS keeps it")


def _check_names(flag: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"--{flag}: there is no {name!r}{nearest(name, known)}")
    if len(set(names)) < len(names) or not (names or flag in ("peers", "gpu_modes")):
        raise UserError(f"expected --{flag} to name one or more, each once, got {_shown(names)}")


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) or "''" if isinstance(value, tuple) else str(value)
