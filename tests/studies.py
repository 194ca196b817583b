"""Small studies, and jobs that finish at once, for the tests of `tl.studies`."""

import numpy as np

from configs import common
from tl import files
from tl.results.predictions import PREDICTIONS, Predictions
from tl.runs import workdir
from tl.studies import folder as study_folder
from tl.studies.config import study
from tl.studies.plan import make_plan

METHODS = {
    "probe": {"run": "probe", "endpoints": ("stem+stage1",)},
    "tune": {"train.steps": 4},
}


def config(axes=None, **arguments):
    """Returns a study on digits of two methods and two seeds, or of other axes."""
    base = common.get_config()
    base.data.examples_per_class = (10,)
    return study(
        "A study",
        base,
        axes or {"method": METHODS, "seed": (0, 1)},
        **{"columns": next(iter(axes or {"method": None})), **arguments},
    )


def plan(axes=None, **arguments):
    return make_plan(config(axes, **arguments))


def result(top1=0.5, seconds=2.0, kind="finetune"):
    """Returns what of `result.json` a study reads."""
    return {
        "kind": kind,
        "val": {"top1": 0.75, "count": 20},
        "test": {"top1": top1, "top1_ci95": [top1 - 0.1, top1 + 0.1], "count": 100},
        "selected": {"endpoint": "stem"},
        "seconds": {"total": seconds},
        "warnings": ["odd"],
    }


def finish(values, path, log, **fields):
    """A job that finishes at once."""
    log("at work")
    workdir.begin(path)
    files.write_json(path / "result.json", result(**fields))
    return result(**fields)


def finished(folder, run, **fields):
    """Has a run of a study be finished in its folder."""
    path = workdir.start(run.config, str(study_folder.place(folder, run)), run.name)
    workdir.leave(path)
    return finish(run.config, path, lambda line: None, kind=run.kind, **fields)


def predict(path, right, ids=None, labels=None, groups=(), seeds=None):
    """Writes the predictions of a run that has test images right where `right` [S, N] says so."""
    right = np.atleast_2d(right)
    count = right.shape[1]
    labels = np.zeros(count, int) if labels is None else labels
    path.mkdir(parents=True, exist_ok=True)
    Predictions(
        seeds=np.arange(len(right)) if seeds is None else seeds,
        classes=["a", "b"],
        test_ids=[str(i) for i in range(count)] if ids is None else ids,
        test_labels=labels,
        test_predicted=np.where(right, labels, 1 - labels),
        test_logits=np.zeros((count, 2)),
        val_ids=["v"],
        val_labels=[0],
        val_logits=[[0.0, 1.0]],
        test_groups=groups,
    ).save(path / PREDICTIONS)
