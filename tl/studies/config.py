"""Builds the config of a study, for `configs/four_cases.py` and `configs/study_*.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from tl.fields import nested


def study(
    title: str,
    base: ConfigDict,
    axes: Mapping[str, Any],
    *,
    columns: str,
    run: str = "finetune",
    claims: Sequence[Mapping[str, Any]] = (),
) -> ConfigDict:
    """Returns the config of a study, whose runs are all combinations of the axes' levels.

    Args:
      title: one line, above tables and plots.
      base: the config that all runs start from, see `configs/common.py`; its fields are
        --config.base.FIELD=VALUE.
      axes: name of each axis to its levels. For a name in `tl.studies.plan.FIELDS` these may be a
        tuple of values of that field. For any name they may be a mapping from a level's name to
        the fields that it changes in base, such as {'train.epochs': 5.0}; `run` among them changes
        the kind of run. Later axes overrule earlier ones.
      columns: the axis whose levels are the columns of the table; the others make its rows.
      run: the kind of the runs, `probe` or `finetune`.
      claims: to be judged, each a mapping with `text` and, as {axis: level}, `where` and `advised`.
    """
    config = ConfigDict(sort_keys=False)
    config.title = title
    config.run = run
    config.base = base
    # The order of levels is kept.
    config.axes = ConfigDict(sort_keys=False)
    for axis, levels in axes.items():
        if isinstance(levels, Mapping):
            levels = ConfigDict({str(k): nested(v) for k, v in levels.items()}, sort_keys=False)
        config.axes[axis] = levels
    config.columns = columns
    config.claims = tuple(map(dict, claims))
    # Runs to do now, by levels: ('method=final_probe', 'seed=0'); an axis not named is not limited.
    config.only = ()
    config.keep_weights = False  # checkpoints and model.safetensors of finished fine-tuning runs
    config.report = True  # write report.html at the end
    return config
