"""What a session is told by; that it goes on exactly is shown in test_resume.py."""

import hashlib
from unittest import mock

import numpy as np
import pytest

from tests.toy import Source
from tl.train import session
from tl.weights.load import Pretrained


def test_a_run_is_the_same_by_its_weights_and_the_rows_of_its_data():
    source = Source(9, name="digits", version="1", split="train")
    network = mock.Mock(spec=Pretrained, sha256="57" * 32)
    found = session.identity(network, {"train": (source, np.array([3, 1]))})
    rows = hashlib.sha256(b"\3" + bytes(7) + b"\1" + bytes(7)).hexdigest()
    data = {"name": "digits", "version": "1", "split": "train", "rows": rows}
    assert found == {"weights": "57" * 32, "data": {"train": data}}
    other = session.identity(network, {"train": (source, np.array([1, 3]))})
    assert other != found


def test_without_a_checkpoint_there_is_nothing_to_go_on_from():
    training = mock.Mock(spec=session.Session, plan=None, evaluator=mock.Mock())
    training.checkpoints = mock.Mock(latest_step=None)
    with pytest.raises(ValueError, match="a checkpoint to go on from; there is none"):
        session.resume(training)
