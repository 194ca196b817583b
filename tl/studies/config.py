"""What a study's config holds; `configs/four_cases.py` and `configs/study_*.py` fill it."""

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
      base: of every run, see `configs/common.py`; its fields are --config.base.FIELD=VALUE.
      axes: name to levels. Of a name of `tl.studies.plan.FIELDS` a tuple of that field's values;
        of any name a mapping from the level's name to what it changes in base, by dotted fields
        such as 'train.epochs', and `run`, the kind of run, where it is not the study's. Later axes
        overrule earlier ones.
      columns: the axis whose levels are the columns of the table; the others make its rows.
      run: `probe` or `finetune`.
      claims: what is to be judged: `text`, `where` and `advised`, both {axis: level}.
    """
    config = ConfigDict(sort_keys=False)
    config.title = title
    config.run = run
    config.base = base
    # Levels stay in the order they are written in.
    config.axes = ConfigDict(sort_keys=False)
    for axis, levels in axes.items():
        if isinstance(levels, Mapping):
            levels = ConfigDict({str(k): nested(v) for k, v in levels.items()}, sort_keys=False)
        config.axes[axis] = levels
    config.columns = columns
    config.claims = tuple(map(dict, claims))
    # Runs to do now, by levels: ('method=final_probe', 'seed=0'); of an axis not named, all.
    config.only = ()
    config.keep_weights = False  # of finished fine-tuning runs: checkpoints, model.safetensors
    config.report = True  # write report.html at the end
    return config
