"""Predictions few enough to count by hand, for tests of what is made of them."""

import json

import numpy as np

from tl.results.compare import Contender
from tl.results.predictions import Predictions


def predictions(**fields):
    """Returns those of four test rows, three val rows and classes `ä` and `b`; two seeds."""
    arrays = {
        "seeds": [3, 4],
        "classes": ["ä", "b"],
        "test_ids": ["t0", "t1", "t2", "long/t3"],
        "test_labels": [0, 1, 1, 0],
        "test_predicted": [[0, 0, 1, 0], [0, 1, 1, 1]],
        "test_logits": [[2.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.5, 0.0]],
        "val_ids": ["v0", "v1", "v2"],
        "val_labels": [0, 1, 1],
        "val_logits": [[2.0, 0.0], [0.0, 2.0], [9.0, 0.0]],
    }
    return Predictions(**{**arrays, **fields})


def contender(name, correct, ids=None, labels=None, classes=("cat", "dog"), groups=()):
    """Returns a run of some seeds, `correct` bool [S, N]; its labels alternate."""
    correct = np.atleast_2d(np.array(correct, bool))
    count = correct.shape[1]
    labels = np.arange(count) % 2 if labels is None else np.array(labels)
    predictions = Predictions(
        seeds=np.arange(len(correct)),
        classes=classes,
        test_ids=[f"i{n}" for n in range(count)] if ids is None else ids,
        test_labels=labels,
        test_predicted=np.where(correct, labels, 1 - labels),
        test_logits=np.zeros((count, 2)),
        val_ids=["v"],
        val_labels=[0],
        val_logits=np.zeros((1, 2)),
        test_groups=groups,
    )
    return Contender(name, "net: pooled", predictions)


def right(count, of=100):
    """Returns which of the images are right: the first ones."""
    return np.arange(of) < count


def folder(path, kind="probe", **fields):
    """Makes the folder of a run that has a `result.json` alone."""
    path.mkdir()
    result = {
        "kind": kind,
        "weights": {"name": "net"},
        "selected": {"endpoint": "stage4", "solver": "ridge", "l2": 0.1},
        **fields,
    }
    (path / "result.json").write_text(json.dumps(result))
    return path
