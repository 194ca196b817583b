"""How fast it is here, beside what else is installed: every peer in the same run, turn by turn.

  python -m experiments.benchmark --workdir=RUN

measures five sections in some eleven minutes on two cores: `features` and `train` (images a second
of ResNet-50, and the share of what this machine's matrix products reach), `probe`, `pipeline` (end
to end over compute alone; images and devices grow) and `startup`. It prints a table of each and
writes benchmark.json, anew after every row. Where a number decides something, leave the machine
alone meanwhile, and look at the spread. Parts and more:

  --sections=features,train --sizes=64,112,224 --train_sizes=64,128 --backbone=efficientnet_lite0
  --sections=pipeline --images=1000,5000,20000 --data_dir=TFDS [--guide]
  --sections=memory --memory_backbones=resnet50 --devices=1,8
  --sections=gpu --gpu_parts=features,train --gpu_backbones=resnet50
  --sections=probe --probe_rows=50000 --probe_features=2048 --peers=

Peers: `flax` (our networks as anybody would write them), `keras` (JAX backend), `torch` (timm),
`onnxruntime` (float32 only) and `sklearn`; `pip install '.[peers]'` brings them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from experiments.benchmark.options import Options
from tl.errors import UserError
from tl.paths import as_local
from tl.runs import cli

WORKDIR = flags.DEFINE_string("workdir", None, "folder that gets benchmark.json")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace the benchmark in --workdir")
HELP = {
    "sections": "what to measure",
    "backbone": "of features, train and pipeline",
    "sizes": "of images for features, px",
    "train_sizes": "of images for train, px",
    "dtypes": "of compute, for features",
    "batch_size": "0: 64 for features, 32 above 112 px; 32 for train, 16 above 64 px",
    "peers": "whom to measure beside ours, where installed; '' for nobody",
    "rounds": "turns of everybody",
    "seconds": "that a turn takes at least",
    "limit_side": "of the matrices whose product is the machine's limit",
    "probe_rows": "of the features that probes are fitted to",
    "probe_features": "of each row",
    "probe_classes": "of the rows",
    "probe_strength": "of the L2 penalty of a single fit",
    "probe_grid": "also the whole grid of strengths",
    "probe_doublings": "how often rows, features and classes are doubled, each alone",
    "pipeline_size": "of images for pipeline, px, made from 32 x 32",
    "images": "numbers of images for pipeline",
    "devices": "numbers of fake CPU devices for pipeline and memory",
    "data_dir": "where TFDS keeps CIFAR-10, for pipeline; '': noise instead of images",
    "memory_backbones": "for memory",
    "memory_size": "of images for memory, px",
    "memory_batch": "images of a batch, over all devices, for memory",
    "gpu_parts": "of the section gpu",
    "gpu_backbones": "for gpu",
    "gpu_dtypes": "of compute, for gpu; training has no float32",
    "gpu_batches": "images of a batch, for gpu's features",
    "gpu_train_batches": "images of a batch, for gpu's train",
    "gpu_compiled_batches": "for which torch.compile compiles, in bfloat16; the largest: trace",
    "gpu_modes": "of torch.compile; '' for none",
    "gpu_images": "numbers of images for gpu's arrays and files",
    "guide": "also the guide's whole job, some minutes (pipeline)",
    "guide_images": "of CIFAR-10 for --guide",
}


def _define(field: dataclasses.Field) -> None:
    """Defines the flag of a field, of the type of its default."""
    default: Any = field.default
    text = HELP[field.name]
    if isinstance(default, tuple):
        flags.DEFINE_list(field.name, list(map(str, default)), text)
    else:
        kinds: dict[type, Callable[..., Any]] = {
            bool: flags.DEFINE_bool,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            str: flags.DEFINE_string,
        }
        kinds[type(default)](field.name, default, text)


FIELDS = {field.name: field for field in dataclasses.fields(Options) if field.name in HELP}
for _field in FIELDS.values():
    _define(_field)


def _value(name: str) -> Any:
    """Returns what a flag says, as the field of `Options` has it."""
    value: Any = flags.FLAGS[name].value
    default: Any = FIELDS[name].default
    if not isinstance(default, tuple):
        return value
    try:
        return tuple(map(type(default[0]), value))
    except ValueError:
        raise UserError(
            f"expected --{name} to be whole numbers such as {','.join(map(str, default))}, got "
            f"{','.join(value)!r}"
        ) from None


def main(arguments: Sequence[str]) -> None:
    """Measures what the flags say."""
    if arguments:
        raise UserError(f"expected flags such as --sections=features, got {arguments[0]!r}")
    if not WORKDIR.value:
        raise UserError("where to? Give --workdir=FOLDER")
    values = {name: _value(name) for name in FIELDS}
    from configs import common, guide_cifar10, quickstart
    from experiments.benchmark import suite

    options = Options(
        train_config=common.get_config(),
        guide_config=guide_cifar10.get_config(),
        quickstart=quickstart.__file__,
        **values,
    )
    folder = as_local(WORKDIR.value, "--workdir")
    if (folder / suite.FILE).exists() and not OVERWRITE.value:
        raise UserError(
            f"{folder} holds a benchmark; give another --workdir, or --overwrite to replace it"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={folder} cannot be written: {error.strerror}") from error
    suite.run(options, folder)


if __name__ == "__main__":
    cli.run(main)
