"""A config's fields as the library's own objects, checked before anything is computed."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tl.data.augment import Augmentation
from tl.errors import UserError, nearest
from tl.features.network import DTYPES, Extraction
from tl.fields import flat
from tl.probes.solvers import SOLVERS, Solver
from tl.train.hyperrule import bit_hyperrule
from tl.train.loop import Cadence
from tl.train.mixing import Mixing
from tl.train.optim import Optim
from tl.weights.fetch import cache_root

RULES = {"bit": bit_hyperrule}


def check_lists(config: ConfigDict) -> None:
    """Raises UserError where nothing is asked for, or something twice."""
    lists = {
        "endpoints": config.endpoints,
        "seeds": config.seeds,
        "data.examples_per_class": config.data.examples_per_class,
        **{f"probe.{name}": config.probe[name] for name in ("solvers", "l2", "k", "temperature")},
    }
    for field, values in lists.items():
        if not values or len(set(values)) < len(values):
            raise UserError(f"expected --config.{field} to be one or more, each once; got {values}")
    if min(config.seeds) < 0:
        raise UserError(f"expected --config.seeds of at least 0, got {config.seeds}")


def extraction(config: ConfigDict) -> Extraction:
    """Returns what to extract: every part of `endpoints` and `extract.endpoints` once.

    Raises:
      UserError: a value that cannot be used.
    """
    fields = config.extract
    for name in ("threads", "verify_rows"):
        if fields[name] < 0:
            raise UserError(f"expected --config.extract.{name} >= 0, got {fields[name]}")
    # The shared ones first: the order is part of what a store is of.
    asked = (*fields.endpoints, *config.endpoints)
    parts = [part for endpoint in asked for part in endpoint.split("+")]
    return Extraction(
        endpoints=tuple(dict.fromkeys(parts)),
        pooling=fields.pooling,
        dtype=fields.dtype,
        batch_size=fields.batch_size,
        fold_batch_norm=fields.fold_batch_norm,
        mapper=fields.mapper,
        threads=fields.threads,
    )


def feature_root(config: ConfigDict) -> Path:
    """Returns the directory of all feature stores."""
    chosen = config.extract.feature_dir
    return Path(chosen).expanduser() if chosen else cache_root() / "features"


def solvers(config: ConfigDict) -> list[Solver]:
    """Returns the solvers to choose from.

    Raises:
      UserError: no solver has that name.
    """
    fields = config.probe
    arguments = {
        "logistic": {
            "l2s": fields.l2,
            "max_iterations": fields.max_iterations,
            "tolerance": fields.tolerance,
            "search_tolerance": fields.search_tolerance,
        },
        "ridge": {"l2s": fields.l2},
        "knn": {"ks": fields.k, "temperatures": fields.temperature},
        "head": {
            "epochs": fields.epochs,
            "batch_size": fields.batch_size,
            "learning_rate": fields.learning_rate,
            "dropout": fields.dropout,
        },
    }
    for name in fields.solvers:
        if name not in SOLVERS:
            raise UserError(f"no solver is called {name!r}{nearest(name, SOLVERS)}")
    return [SOLVERS[name](**arguments[name]) for name in fields.solvers]


def seed(config: ConfigDict) -> int:
    """Returns the one seed of a fine-tuning run."""
    return _only(config.seeds, "seeds")


def examples_per_class(config: ConfigDict) -> int:
    """Returns the one number of examples of a fine-tuning run, 0 for all."""
    return _only(config.data.examples_per_class, "data.examples_per_class")


def _only(values: tuple[int, ...], field: str) -> int:
    if len(values) != 1 or values[0] < 0:
        raise UserError(
            f"fine-tuning takes one --config.{field} of at least 0, got {values}; for several, "
            "start several runs"
        )
    return values[0]


def compute_dtype(config: ConfigDict) -> str:
    """Returns the type that training computes in."""
    if config.train.dtype not in DTYPES:
        raise UserError(
            f"expected --config.train.dtype to be one of {DTYPES}, got {config.train.dtype!r}"
        )
    return config.train.dtype


def optim(config: ConfigDict) -> Optim:
    """Returns the optimizer's fields, checked."""
    return Optim(**config.optim)


def augmentation(config: ConfigDict) -> Augmentation:
    """Returns what may happen to a training image, checked."""
    fields = dict(config.augment)
    return Augmentation(**{k: v for k, v in fields.items() if k not in ("mixup", "cutmix")})


def mixing(config: ConfigDict) -> Mixing:
    """Returns what may happen between the images of a batch, checked."""
    return Mixing(config.augment.mixup, config.augment.cutmix)


def cadence(config: ConfigDict, num_examples: int) -> Cadence:
    """Returns how long a fine-tuning run is, and when what happens in it.

    Args:
      config: `train` says.
      num_examples: to train on.

    Raises:
      UserError: a value that cannot be used.
    """
    fields = config.train
    least = {
        "batch_size": 1,
        "accumulate": 1,
        "epochs": 0,
        "steps": 0,
        "eval_every": 0,
        "checkpoint_every": 0,
        "max_to_keep": 1,
        "patience": 0,
        "log_every": 1,
    }
    for name, low in least.items():
        if not fields[name] >= low:  # negated, so that NaN fails
            raise UserError(f"expected --config.train.{name} >= {low}, got {fields[name]}")
    for name in ("label_smoothing", "dropout", "ema_decay"):
        if not 0 <= fields[name] < 1:
            raise UserError(f"expected --config.train.{name} in [0, 1), got {fields[name]}")
    steps_per_epoch = num_examples / fields.batch_size
    return Cadence(
        steps=fields.steps or round(fields.epochs * steps_per_epoch),
        steps_per_epoch=steps_per_epoch,
        eval_every=fields.eval_every or max(1, round(steps_per_epoch)),
        checkpoint_every=fields.checkpoint_every,
        log_every=fields.log_every,
        patience=fields.patience,
    )


def with_rule(
    config: ConfigDict, num_examples: int, image_shape: tuple[int, int, int] | None
) -> tuple[ConfigDict, dict[str, Any]]:
    """Returns the config after `train.rule` has filled the fields that are left 0 or empty.

    Args:
      config: is not changed.
      num_examples: to train on.
      image_shape: (H, W, 3), or None where it varies.

    Returns:
      (config, dotted name of each field that was filled to its value).

    Raises:
      UserError: no such rule.
    """
    name = config.train.rule
    if not name:
        return config, {}
    if name not in RULES:
        raise UserError(f"--config.train.rule: there is no {name!r}{nearest(name, RULES)}")
    given, ruled = flat(config), RULES[name](num_examples, image_shape)
    ruled = {field: value for field, value in ruled.items() if not given[field]}
    filled = config.copy_and_resolve_references()
    filled.update_from_flattened_dict(ruled)
    return filled, ruled
