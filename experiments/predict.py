"""Predicts on images without labels, with a run or with public weights.

  python -m experiments.predict RUN PATHS... [--top_k=5] [--output=FILE]
  python -m experiments.predict RUN PATHS... --features=pooled,stage3 --output=FILE_OR_STORE
  python -m experiments.predict RUN FOLDER --labels --workdir=FOLDER

RUN is the folder of a run of experiments.probe or experiments.finetune, a weight file, or a name of
`experiments.weights list`. PATHS are image files; folders, flat or nested; globs such as
'photos/**/*.jpg'; tables with a column of paths (.csv, .tsv, .jsonl, .parquet); or - for
one path a line of standard input. Rows keep this order. Without --output they go to standard output
as CSV.
"""

import itertools
import sys
import time
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict

from tl.errors import UserError
from tl.paths import as_local
from tl.runs import cli

TOP_K = flags.DEFINE_integer("top_k", 5, "how many classes of each image, the most probable first")
OUTPUT = flags.DEFINE_string(
    "output",
    "",
    "file to write: .csv, .jsonl or .parquet; with --features .npz, .npy or .parquet, or a name "
    "without an ending for a feature store",
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace --output, or the run in --workdir")
FEATURES = flags.DEFINE_list("features", [], "endpoints whose features to write instead of classes")
POOLING = flags.DEFINE_string(
    "pooling", "mean", "mean, max, gridN or none; of tokens cls, cls_mean"
)
LABELS = flags.DEFINE_bool(
    "labels", False, "score against labels: a folder for each class, or the column of a table"
)
WORKDIR = flags.DEFINE_string("workdir", "", "with --labels: the folder for the score and its page")
PATH_COLUMN = flags.DEFINE_string("path_column", "", "of a table; default path, file, image, ...")
LABEL_COLUMN = flags.DEFINE_string("label_column", "label", "of a table, with --labels")
WEIGHTS = flags.DEFINE_string("weights", "", "where the weights of a probe's network are now")
LIKE = flags.DEFINE_string("like", "", "weight set whose preprocessing a local file takes")
PREFIX = flags.DEFINE_string("prefix", "", "prefix rule of a self-supervised checkpoint")
AVERAGE = flags.DEFINE_string("average", "", "ema: a checkpoint's averaged weights, not the raw")
CLASSES = flags.DEFINE_string("classes", "", "file that names the outputs of a weight file")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "images, over all devices", lower_bound=1)
THREADS = flags.DEFINE_integer("threads", 4, "that load images", lower_bound=0)
cli.define_cluster_flags()

_FIELD_FLAGS = {
    "top_k": "top_k",
    "weights_like": "like",
    "weights_prefix": "prefix",
    "weights_average": "average",
    "weights_classes": "classes",
}


def main(arguments: Sequence[str]) -> None:
    """Predicts on the images that the arguments name."""
    if len(arguments) < 2:
        raise UserError(
            "expected a run and one path or more: python -m experiments.predict RUN PATHS..."
        )
    name, *paths = arguments
    if LABELS.value and not WORKDIR.value:
        raise UserError("--labels needs --workdir=FOLDER, for the score and its page")
    if LABELS.value and FEATURES.value:
        raise UserError("--features writes no classes that --labels could score; give one of them")
    from tl import devices  # these import JAX, which a misspelt flag need not wait for
    from tl.data.listing import listed
    from tl.inference import model as inference
    from tl.runs import compile_cache, predict, workdir
    from tl.weights.fetch import cache_root

    items = listed(
        paths,
        path_column=PATH_COLUMN.value,
        label_column=LABEL_COLUMN.value,
        labelled=LABELS.value,
    )
    first = next(items)  # a misspelt path need not wait for the weights
    devices.divide_cpu()
    cli.join_hosts()
    compile_cache.enable(cache_root())
    model = inference.load(
        name,
        weights=WEIGHTS.value,
        like=LIKE.value,
        prefix=PREFIX.value,
        average=AVERAGE.value,
        classes=CLASSES.value,
        batch_size=BATCH_SIZE.value,
        threads=THREADS.value,
    )
    wanted = predict.Wanted(TOP_K.value, tuple(FEATURES.value), POOLING.value)
    output = as_local(OUTPUT.value, "--output") if OUTPUT.value else None
    score = predict.Score() if LABELS.value else None
    start = time.perf_counter()
    if score:
        fields = {
            flag.name: flag.value
            for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])
            if flag.name not in cli.CLUSTER_FLAGS
        }
        config = ConfigDict({"weights": name, "paths": tuple(paths), **fields})
        folder = workdir.start(config, WORKDIR.value, "predict", overwrite=OVERWRITE.value)
    predict.run(
        model,
        itertools.chain([first], items),
        wanted,
        output,
        overwrite=OVERWRITE.value,
        score=score,
        log=_log,
    )
    if score:
        score.conclude(model, folder, start, _log)


def _log(line: str) -> None:
    from tl import hosts

    if hosts.is_first():
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run(main, _FIELD_FLAGS)
