"""The runs of a study: every combination of its axes' levels, each a whole config, checked."""

import collections
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from tl.errors import UserError, nearest
from tl.fields import flat
from tl.studies import sharing

KINDS = ("probe", "finetune")
# Axes that are one field of a run's config.
FIELDS = {
    "weights": "weights",
    "endpoint": "endpoints",
    "pooling": "extract.pooling",
    "data": "data.name",
    "examples": "data.examples_per_class",
    "solver": "probe.solvers",
    "norm": "train.norm",
    "resolution": "preprocess.size",
    "interpolation": "preprocess.interpolation",
    "seed": "seeds",
}
_LONGEST_NAME = 150  # of a folder, in bytes


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
      name: of its folder.
      kind: of KINDS.
      levels: axis to level, of every axis.
      config: of the run, see `configs/common.py`.
      extraction: equal for runs that read the same features; empty where a run reads none.
    """

    name: str
    kind: str
    levels: Mapping[str, str]
    config: ConfigDict
    extraction: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """That of all levels of an axis one does best, under some circumstances.

    Attributes:
      text: the claim in words.
      where: axis to level: the circumstances.
      axis, advised: the level that is said to be best.
    """

    text: str
    where: Mapping[str, str]
    axis: str
    advised: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study.

    Attributes:
      title: one line.
      axes: name to levels, in the order of the config.
      columns: the axis that makes the columns of tables.
      runs: all of them; of axis `seed` the first level's come first.
      claims: to be judged.
      chosen: names of the runs to do now.
      keep_weights: whether weights of finished fine-tuning runs stay.
    """

    title: str
    axes: Mapping[str, tuple[str, ...]]
    columns: str
    runs: tuple[Run, ...]
    claims: tuple[Claim, ...]
    chosen: frozenset[str]
    keep_weights: bool


def make_plan(config: ConfigDict) -> Plan:
    """Returns the runs that a study's config describes.

    Args:
      config: see `tl.studies.config.study`; it is not changed.

    Raises:
      UserError: an axis, level, field or value that there is not.
    """
    if not len(config.axes):
        raise UserError("expected --config.axes to have one axis or more, got none")
    axes = {axis: _levels(config.base, axis, config.axes[axis]) for axis in config.axes}
    if config.columns not in axes:
        raise UserError(
            f"--config.columns: no axis is called {config.columns!r}{nearest(config.columns, axes)}"
        )
    if config.columns == "seed":
        raise UserError("--config.columns: cells are means over seeds; name another axis")
    # Seeds are the slowest to change: a study that is cut short has all settings once.
    ordered = sorted(axes, key=lambda axis: axis != "seed")
    runs, names = [], collections.Counter()
    for chosen in itertools.product(*(axes[axis].items() for axis in ordered)):
        levels = dict(zip(ordered, chosen))
        kind, run_config = _config(config, {axis: levels[axis][1] for axis in axes})
        levels = {axis: levels[axis][0] for axis in axes}
        name = "-".join(_slug(axis, level) for axis, level in levels.items())
        name = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
        names[key := name.casefold()] += 1  # some file systems take A and a for the same
        name += f"-{names[key]}" if names[key] > 1 else ""
        runs.append(Run(name, kind, levels, run_config, sharing.key(kind, run_config)))
    sharing.share([run.config for run in runs if run.kind == "probe"])
    levels = {axis: tuple(of_axis) for axis, of_axis in axes.items()}
    return Plan(
        title=config.title,
        axes=levels,
        columns=config.columns,
        runs=tuple(runs),
        claims=tuple(_claim(claim, levels) for claim in config.claims),
        chosen=_chosen(config.only, levels, runs),
        keep_weights=config.keep_weights,
    )


def _levels(base: ConfigDict, axis: str, given: Any) -> dict[str, dict[str, Any]]:
    """Returns, for each level of an axis, the dotted fields it sets; `run` is its kind of run."""
    if isinstance(given, ConfigDict):
        levels = {name: flat(given[name]) for name in given}
    elif axis not in FIELDS:
        raise UserError(
            f"--config.axes.{axis} is no field of its own: give it named levels, each with what it "
            f"changes, as configs/four_cases.py does; a list of values suits {', '.join(FIELDS)}"
        )
    else:
        field = FIELDS[axis]
        wrap = isinstance(flat(base)[field], tuple)
        levels = {_level_name(axis, value): {field: (value,) if wrap else value} for value in given}
        if len(levels) < len(given):
            raise UserError(f"expected the levels of --config.axes.{axis} once each; got {given}")
    if not levels:
        raise UserError(f"expected --config.axes.{axis} to have one level or more, got none")
    return levels


def _level_name(axis: str, value: Any) -> str:
    return "all" if axis == "examples" and value == 0 else str(value)


def _config(study: ConfigDict, changes: Mapping[str, Mapping[str, Any]]) -> tuple[str, ConfigDict]:
    """Returns the kind and the config of one run."""
    kind, config = study.run, study.base.copy_and_resolve_references()
    config.lock()
    for axis, fields in changes.items():
        for field, value in fields.items():
            if field == "run":
                kind = value
            else:
                _set(config, field, value, f"--config.axes.{axis}")
    if kind not in KINDS:
        raise UserError(f"no kind of run is called {kind!r}{nearest(kind, KINDS)}")
    config.report = False  # the study has its own
    return kind, config


def _set(config: ConfigDict, field: str, value: Any, where: str) -> None:
    fields = flat(config)
    if field not in fields:
        raise UserError(f"{where}: a run has no field {field!r}{nearest(field, fields)}")
    before = fields[field]
    if isinstance(before, tuple) and isinstance(value, tuple | list) and before and value:
        alike = all(_alike(item, before[0]) for item in value)
    else:
        alike = _alike(value, before)
    if not alike:
        raise UserError(f"{where}: expected {field} to be such as {before!r}, got {value!r}")
    config.update_from_flattened_dict({field: value})


def _alike(value: Any, before: Any) -> bool:
    """Returns whether a value may take another's place; an integer may be where a float was."""
    kinds = (int, float) if isinstance(before, float) else type(before)
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(before, bool)


def _slug(axis: str, level: str) -> str:
    axis, text = (re.sub(r"[^\w.]+", "_", part).strip("_.") for part in (axis, level))
    return f"{axis}{text}" if text.isdecimal() or not text else text


def _claim(claim: Mapping[str, Any], axes: Mapping[str, Sequence[str]]) -> Claim:
    if not isinstance(claim, Mapping) or not {"text", "where", "advised"} <= set(claim):
        raise UserError(
            f"expected each of --config.claims to have text, where and advised, got {claim!r}"
        )
    where, advised = (
        {axis: _level_name(axis, level) for axis, level in claim[key].items()}
        for key in ("where", "advised")
    )
    if len(advised) != 1:
        raise UserError(f"claim {claim['text']!r}: expected one axis under advised, got {advised}")
    for axis, level in {**where, **advised}.items():
        if axis not in axes:
            raise UserError(f"claim {claim['text']!r}: no axis {axis!r}{nearest(axis, axes)}")
        if level not in axes[axis]:
            raise UserError(
                f"claim {claim['text']!r}: {axis} has no level {level!r}"
                f"{nearest(level, axes[axis])}"
            )
    ((axis, level),) = advised.items()
    if axis in where:
        raise UserError(
            f"claim {claim['text']!r}: {axis} is under where and under advised; where there is "
            "only one level, none is best"
        )
    return Claim(claim["text"], where, axis, level)


def _chosen(
    only: Sequence[str], axes: Mapping[str, Sequence[str]], runs: Sequence[Run]
) -> frozenset[str]:
    """Returns the names of the runs that --config.only names."""
    wanted = collections.defaultdict(set)
    for text in only:
        axis, _, level = str(text).partition("=")
        if axis not in axes:
            raise UserError(f"--config.only: no axis is called {axis!r}{nearest(axis, axes)}")
        if level not in axes[axis]:
            raise UserError(
                f"--config.only: {axis} has no level {level!r}{nearest(level, axes[axis])}"
            )
        wanted[axis].add(level)
    return frozenset(
        run.name
        for run in runs
        if all(run.levels[axis] in levels for axis, levels in wanted.items())
    )
