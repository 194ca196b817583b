"""Predictions of four test rows and three val rows, for tests of what is made of them."""

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
