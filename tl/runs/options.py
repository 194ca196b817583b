"""Reads a config, once: its fields become typed parts, checked before anything runs."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tl import paths
from tl.data.augment import Augmentation
from tl.data.sources import Data
from tl.data.transforms import Overrides
from tl.errors import UserError, nearest
from tl.features.network import Extraction
from tl.fields import flat, nested
from tl.models.backbone import Backbone
from tl.probes.solvers import SOLVERS, Solver
from tl.train import losses
from tl.train.hyperrule import bit_hyperrule
from tl.train.loop import Cadence
from tl.train.mixing import Mixing
from tl.train.optim import Optim
from tl.train.recipe import Recipe
from tl.weights.spec import WeightChoice


@dataclasses.dataclass(frozen=True)
class Features:
    """Which features a run needs, and where they are kept.

    Attributes:
      overrides: of the preprocessing that belongs to the weights.
      extraction: what to extract, and how.
      required: field of the config to the endpoints that it asks for, which must exist; others in
        `extraction` are left out where the network or its images lack them.
      root: directory of all feature stores.
      verify_rows: rows to compute again and compare with the store.
      skip_corrupt: leave out images that do not decode.
    """

    overrides: Overrides
    extraction: Extraction
    required: Mapping[str, tuple[str, ...]]
    root: Path
    verify_rows: int
    skip_corrupt: bool

    def of(self, backbone: Backbone) -> "Features":
        """Returns the same with the endpoints that a network calls `earlier` and `last`."""
        return dataclasses.replace(
            self,
            extraction=dataclasses.replace(
                self.extraction, endpoints=backbone.named_endpoints(self.extraction.endpoints)
            ),
            required={
                field: backbone.named_endpoints(names) for field, names in self.required.items()
            },
        )


RULES = {"bit": bit_hyperrule}


def config(fields: Mapping[str, Any]) -> ConfigDict:
    """Returns the config with these fields, by their dotted names."""
    return ConfigDict(nested(fields))


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
            raise UserError(f"expected one or more, each once; got {values}", field=field)
    if min(config.seeds) < 0:
        raise UserError(f"expected seeds of at least 0, got {config.seeds}", field="seeds")


def weights(config: ConfigDict) -> WeightChoice:
    """Returns which weights to load."""
    return WeightChoice(
        config.weights,
        like=config.weights_like,
        prefix=config.weights_prefix,
        average=config.weights_average,
        classes=config.weights_classes,
    )


def data(config: ConfigDict) -> Data:
    """Returns which images, and how they are divided."""
    return Data(**{k: v for k, v in config.data.items() if k != "examples_per_class"})


def data_to_hold_out(config: ConfigDict, what: str) -> Data:
    """Returns which images, of a run that chooses on one val.

    Args:
      config: see `configs/common.py`.
      what: the run does, for the error.

    Raises:
      UserError: `data.val` asks for folds.
    """
    found = data(config)
    if found.folds:
        raise UserError(
            f"{what} has no folds, only a probe has; give a share of train, such as 0.2, or a "
            f"split, got {found.val!r}",
            field="data.val",
        )
    return found


def overrides(config: ConfigDict) -> Overrides:
    """Returns where preprocessing differs from what belongs to the weights."""
    return Overrides(**config.preprocess)


def features(config: ConfigDict, endpoints: Sequence[str] = ()) -> Features:
    """Returns which features a run needs.

    Args:
      config: see `configs/common.py`.
      endpoints: that the run asks for; default the config's.

    Raises:
      UserError: a value that cannot be used.
    """
    endpoints = endpoints or config.endpoints
    for field, names in (("endpoints", endpoints), ("extract.endpoints", config.extract.endpoints)):
        for name in names:
            if len(set(name.split("+"))) < len(name.split("+")):
                raise UserError(f"expected every part of {name!r} once", field=field)
    return Features(
        overrides=overrides(config),
        extraction=extraction(config, endpoints),
        required={
            "endpoints": _parts(endpoints),
            "extract.endpoints": _parts(config.extract.endpoints),
        },
        root=feature_root(config),
        verify_rows=config.extract.verify_rows,
        skip_corrupt=config.data.skip_corrupt,
    )


def extraction(config: ConfigDict, endpoints: Sequence[str] = ()) -> Extraction:
    """Returns what to extract: the endpoints of a run, `extract.endpoints` and shared ones, once.

    Args:
      config: see `configs/common.py`.
      endpoints: that the run asks for; default the config's.

    Raises:
      UserError: a value that cannot be used.
    """
    fields = config.extract
    for name in ("threads", "verify_rows"):
        if fields[name] < 0:
            raise UserError(f"expected at least 0, got {fields[name]}", field=f"extract.{name}")
    return Extraction(
        endpoints=_parts(
            (*fields.shared_endpoints, *fields.endpoints, *(endpoints or config.endpoints))
        ),
        pooling=fields.pooling,
        dtype=fields.dtype,
        batch_size=fields.batch_size,
        fold_batch_norm=fields.fold_batch_norm,
        mapper=fields.mapper,
        threads=fields.threads,
    )


def _parts(endpoints: Sequence[str]) -> tuple[str, ...]:
    """Returns the endpoints that 'a+b' joins, each once."""
    return tuple(dict.fromkeys(part for name in endpoints for part in name.split("+")))


def feature_root(config: ConfigDict) -> Path:
    """Returns the directory of all feature stores."""
    chosen = config.extract.feature_dir
    return paths.as_path(chosen or f"{os.environ.get('TL_CACHE') or '~/.cache/tl'}/features")


def solvers(config: ConfigDict) -> list[Solver]:
    """Returns the solvers to choose from.

    Raises:
      UserError: no solver has that name.
    """
    fields = config.probe.to_dict()
    for name in fields["solvers"]:
        if name not in SOLVERS:
            raise UserError(
                f"no solver is called {name!r}{nearest(name, SOLVERS)}", field="probe.solvers"
            )
    return [SOLVERS[name].from_fields(fields) for name in fields["solvers"]]


def seed(config: ConfigDict) -> int:
    """Returns the one seed of a fine-tuning run."""
    return _only(config.seeds, "seeds")


def examples_per_class(config: ConfigDict) -> int:
    """Returns the one number of examples of a fine-tuning run, 0 for all."""
    return _only(config.data.examples_per_class, "data.examples_per_class")


def _only(values: tuple[int, ...], field: str) -> int:
    if len(values) != 1 or values[0] < 0:
        raise UserError(
            f"fine-tuning takes one number of at least 0, got {values}; for several, start "
            "several runs",
            field=field,
        )
    return values[0]


def recipe(
    config: ConfigDict, num_examples: int, image_shape: tuple[int, int, int] | None
) -> Recipe:
    """Returns how to train, after `train.rule` has filled the fields that are left 0 or empty.

    Args:
      config: see `configs/common.py`.
      num_examples: to train on.
      image_shape: (H, W, 3), or None where it varies.

    Raises:
      UserError: a value that cannot be used; no such rule.
    """
    config, ruled = _with_rule(config, num_examples, image_shape)
    train = config.train
    same = (
        "start", "head", "freeze", "unfreeze", "lora", "lora_rank", "wise_ft", "norm",
        "cache_prefix", "dtype", "sharding", "remat", "batch_size", "accumulate", "dropout",
        "drop_path", "label_smoothing", "ema_decay", "max_to_keep", "rule",
    )  # fmt: skip
    mixed = ("mixup", "cutmix")
    return Recipe(
        **{name: train[name] for name in same},
        weights=weights(config),
        overrides=overrides(config),
        seed=seed(config),
        norm_momentum=_momentum(train.norm_momentum),
        cadence=_cadence(train, num_examples),
        loss=losses.by_name(train.loss),
        optim=Optim(**config.optim),
        augmentation=Augmentation(**{k: v for k, v in config.augment.items() if k not in mixed}),
        mixing=Mixing(**{name: config.augment[name] for name in mixed}),
        ruled=ruled,
    )


def _with_rule(
    config: ConfigDict, num_examples: int, image_shape: tuple[int, int, int] | None
) -> tuple[ConfigDict, dict[str, Any]]:
    """Returns the config as `train.rule` fills it, and dotted name to value of what it filled."""
    name = config.train.rule
    if not name:
        return config, {}
    if name not in RULES:
        raise UserError(f"there is no {name!r}{nearest(name, RULES)}", field="train.rule")
    given, ruled = flat(config), RULES[name](num_examples, image_shape)
    ruled = {field: value for field, value in ruled.items() if not given[field]}
    filled = config.copy_and_resolve_references()
    filled.update_from_flattened_dict(ruled)
    return filled, ruled


def _momentum(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _cadence(train: Mapping[str, Any], num_examples: int) -> Cadence:
    least = {
        "batch_size": 1, "epochs": 0, "steps": 0, "min_steps": 0, "eval_every": 0,
        "checkpoint_every": 0, "patience": 0, "log_every": 1,
    }  # fmt: skip
    for name, low in least.items():
        if not train[name] >= low:  # negated, so that NaN fails
            raise UserError(f"expected at least {low}, got {train[name]}", field=f"train.{name}")
    steps_per_epoch = eval_every = num_examples / train["batch_size"]
    steps = train["steps"] or round(train["epochs"] * steps_per_epoch)
    if not train["steps"] and steps < train["min_steps"]:
        steps = train["min_steps"]
        eval_every = steps / max(1, train["epochs"])
    return Cadence(
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        eval_every=train["eval_every"] or max(1, round(eval_every)),
        checkpoint_every=train["checkpoint_every"],
        log_every=train["log_every"],
        patience=train["patience"],
    )
