"""LP-FT's first head is the probe's solution on the features of the network it is put on."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tl.data.digits import Digits
from tl.data.transforms import device_transform
from tl.features.network import Extraction
from tl.probes.solvers import Logistic
from tl.runs.probe_head import fit_head
from tl.weights.load import load


@pytest.fixture(scope="module", autouse=True)
def backbone():
    with tiny.registered():
        yield


def test_the_network_with_the_head_predicts_what_the_probe_does(tmp_path):
    network = load(
        tiny.write_weights(tmp_path / "tiny.safetensors"), num_classes=10, drop_head=True
    )
    source = Digits("train")
    rows = np.arange(120)
    parts = {"train": (source, rows[:90]), "val": (source, rows[90:])}
    lines = []
    head = fit_head(
        network, parts, Extraction(("stem",), threads=0), tmp_path, Logistic((1.0, 0.1)),
        lines.append,
    )  # fmt: skip
    assert head["kernel"].shape == (16, 10) and head["bias"].shape == (10,)
    (said,) = [line for line in lines if line.startswith("head: ")]
    assert said.startswith("head: linear probe with l2 ") and said.endswith(" % of 30")
    images = np.stack([source[row]["image"] for row in rows[90:].tolist()])
    inputs = device_transform(jnp.asarray(images), network.spec.preprocessing)
    started = network.with_head(head)
    logits = started.model.apply(started.variables, inputs)["logits"]
    top1 = np.mean(np.argmax(logits, axis=1) == source.labels()[rows[90:]])
    assert f"val top-1 {100 * top1:.2f} %" in said
    assert top1 > 0.3  # by chance 0.1
