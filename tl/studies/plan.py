"""The plan of a study: one run, with a whole config, for each combination of its axes' levels."""

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
      name: the name of its folder.
      kind: one of KINDS.
      levels: every axis to the run's level on it.
      config: of the run, see `configs/common.py`.
      extraction: equal for runs that read the same features; empty if a run reads none.
    """

    name: str
    kind: str
    levels: Mapping[str, str]
    config: ConfigDict
    extraction: str

    @property
    def fields(self) -> dict[str, Any]:
        """Dotted name to value, of the config."""
        return flat(self.config)


@dataclasses.dataclass(frozen=True)
class Claim:
    """The claim that one level of an axis does best under some circumstances.

    Attributes:
      text: the claim in words.
      where: the circumstances, axis to level.
      axis: whose levels are compared.
      advised: the level that is said to be best.
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
      axes: each axis to its levels, in the order of the config.
      columns: the axis whose levels are the columns of tables.
      runs: all runs; those of the first level of the axis `seed` come first.
      claims: to be judged.
      chosen: names of the runs to do now.
      keep_weights: whether the weights of finished fine-tuning runs stay.
      report: whether a page is made at the end.
    """

    title: str
    axes: Mapping[str, tuple[str, ...]]
    columns: str
    runs: tuple[Run, ...]
    claims: tuple[Claim, ...]
    chosen: frozenset[str]
    keep_weights: bool
    report: bool


def make_plan(config: ConfigDict) -> Plan:
    """Returns the runs that a study's config describes.

    Args:
      config: see `tl.studies.config.study`; it is not changed.

    Raises:
      UserError: an axis, level, field or value that does not exist.
    """
    if not len(config.axes):
        raise UserError("expected one axis or more, got none", field="axes")
    axes = {axis: _levels(config.base, axis, config.axes[axis]) for axis in config.axes}
    if config.columns not in axes:
        raise UserError(
            f"no axis is called {config.columns!r}{nearest(config.columns, axes)}", field="columns"
        )
    if config.columns == "seed":
        raise UserError("cells are means over seeds; name another axis", field="columns")
    # Seeds are the slowest to change: a study that is cut short has all settings once.
    ordered = sorted(axes, key=lambda axis: axis != "seed")
    runs: list[Run] = []
    names: collections.Counter[str] = collections.Counter()
    for chosen in itertools.product(*(axes[axis].items() for axis in ordered)):
        of_run = dict(zip(ordered, chosen))
        kind, run_config = _config(config, {axis: of_run[axis][1] for axis in axes})
        own = {axis: of_run[axis][0] for axis in axes}
        name = "-".join(_slug(axis, level) for axis, level in own.items())
        name = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
        names[key := name.casefold()] += 1  # on some file systems A and a are the same name
        name += f"-{names[key]}" if names[key] > 1 else ""
        runs.append(Run(name, kind, own, run_config, sharing.key(kind, flat(run_config))))
    probes = [run for run in runs if run.kind == "probe"]
    for run, endpoints in zip(probes, sharing.shared_endpoints([run.fields for run in probes])):
        run.config.extract.shared_endpoints = endpoints
    levels = {axis: tuple(of_axis) for axis, of_axis in axes.items()}
    return Plan(
        title=config.title,
        axes=levels,
        columns=config.columns,
        runs=tuple(runs),
        claims=tuple(_claim(claim, levels) for claim in config.claims),
        chosen=_chosen(config.only, levels, runs),
        keep_weights=config.keep_weights,
        report=config.report,
    )


def _levels(base: ConfigDict, axis: str, given: Any) -> dict[str, dict[str, Any]]:
    """Returns, for each level of an axis, the dotted fields it sets; `run` is its kind of run."""
    if isinstance(given, ConfigDict):
        levels = {name: flat(given[name]) for name in given}
    elif axis not in FIELDS:
        raise UserError(
            "it is not one field of a run: give it named levels, each with what it changes, as "
            f"configs/four_cases.py does; a list of values suits {', '.join(FIELDS)}",
            field=f"axes.{axis}",
        )
    else:
        field = FIELDS[axis]
        wrap = isinstance(flat(base)[field], tuple)
        levels = {_level_name(axis, value): {field: (value,) if wrap else value} for value in given}
        if len(levels) < len(given):
            raise UserError(f"expected every level once, got {given}", field=f"axes.{axis}")
    if not levels:
        raise UserError("expected one level or more, got none", field=f"axes.{axis}")
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
                _set(config, field, value, axis)
    if kind not in KINDS:
        raise UserError(f"no kind of run is called {kind!r}{nearest(kind, KINDS)}")
    config.report = False  # the study has its own
    return kind, config


def _set(config: ConfigDict, field: str, value: Any, axis: str) -> None:
    fields = flat(config)
    if field not in fields:
        raise UserError(
            f"a run has no field {field!r}{nearest(field, fields)}", field=f"axes.{axis}"
        )
    before = fields[field]
    if isinstance(before, tuple) and isinstance(value, tuple | list) and before and value:
        alike = all(_alike(item, before[0]) for item in value)
    else:
        alike = _alike(value, before)
    if not alike:
        raise UserError(
            f"expected {field} to be such as {before!r}, got {value!r}", field=f"axes.{axis}"
        )
    config.update_from_flattened_dict({field: value})


def _alike(value: Any, before: Any) -> bool:
    """Returns whether a value may take another's place; an integer may be where a float was."""
    kinds = (int, float) if isinstance(before, float) else type(before)
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(before, bool)


def _slug(axis: str, level: str) -> str:
    axis, text = (re.sub(r"[^\w.]+", "_", part).strip("_.") for part in (axis, level))
    return f"{axis}{text}" if text.isdecimal() or not text else text


def _claim(claim: object, axes: Mapping[str, Sequence[str]]) -> Claim:
    if not isinstance(claim, Mapping) or not {"text", "where", "advised"} <= set(claim):
        raise UserError(
            f"expected each to have text, where and advised, got {claim!r}", field="claims"
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
                f"{nearest(level, axes[axis])}; --config.claims='()' leaves out all claims"
            )
    ((axis, level),) = advised.items()
    if axis in where:
        raise UserError(
            f"claim {claim['text']!r}: {axis} is under where and under advised; where there is "
            "only one level, none is best"
        )
    return Claim(claim["text"], where, axis, level)


def _chosen(
    only: Sequence[object], axes: Mapping[str, Sequence[str]], runs: Sequence[Run]
) -> frozenset[str]:
    """Returns the names of the runs that `only` chooses."""
    wanted: dict[str, set[str]] = collections.defaultdict(set)
    for text in only:
        axis, _, level = str(text).partition("=")
        if axis not in axes:
            raise UserError(f"no axis is called {axis!r}{nearest(axis, axes)}", field="only")
        if level not in axes[axis]:
            raise UserError(
                f"{axis} has no level {level!r}{nearest(level, axes[axis])}", field="only"
            )
        wanted[axis].add(level)
    return frozenset(
        run.name
        for run in runs
        if all(run.levels[axis] in levels for axis, levels in wanted.items())
    )
