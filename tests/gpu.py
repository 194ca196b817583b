"""Programs that the tests of an accelerator start in processes of their own."""

import collections
import dataclasses
import hashlib
import os
import pathlib
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.networks import random_variables, tiny_resnet
from tests.toy import PLAIN, TOY, Source, pretrained
from tl.devices import DataParallel
from tl.features.network import Extraction, compute_rows
from tl.models.backbone import Endpoint
from tl.runs import compile_cache

ROOT = pathlib.Path(__file__).parents[1]


def start(call: str, **environment: str) -> subprocess.Popen:
    """Starts a function of this module, `name(arguments)`, with more environment variables."""
    inherited = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    return subprocess.Popen(
        [sys.executable, "-c", f"from tests import gpu; gpu.{call}"],
        cwd=ROOT,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> list[str]:
    """Returns the lines that a process prints."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out.splitlines()


class Wide(nn.Module):
    """The endpoint `pooled`: the image's first value, `width` times."""

    width: int
    num_classes: int = 0
    dropout: float = 0.0
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, images, train=False, start="", stop=""):
        factor = self.param("factor", nn.initializers.ones, (), jnp.float32)
        return {"pooled": jnp.broadcast_to(images[:, 0, 0, :1] * factor, (len(images), self.width))}


def too_large() -> None:
    """Prints the log of an extraction whose batch of 64 takes 1.5 times the memory, and the rows.

    Only 32 rows are wanted, so that the smaller batch is the only one.
    """
    devices = jax.local_devices()
    limit = sum(device.memory_stats()["bytes_limit"] for device in devices)
    width = int(1.5 * limit) // (64 * 4)
    outputs = {"pooled": Endpoint(width, "vector")}
    backbone = dataclasses.replace(TOY, name="wide", module=Wide, outputs=outputs)
    network = pretrained(Wide(width), {"params": {"factor": np.float32(1)}}, backbone)
    extraction = Extraction(("pooled",), batch_size=64, threads=0)
    computed = compute_rows(network, Source(64), PLAIN, extraction, np.arange(32))
    for batch, features in computed:
        assert (features["pooled"] == batch["index"][:, None]).all()
        print(*batch["index"][batch["mask"]])


def train(root: str) -> None:
    """Trains a small ResNet for ten steps, with the programs kept below `root`.

    Prints the digest of all it ends with, then the number of programs found and of those compiled.
    """
    from tests.test_train_steps import image_batch, step_of

    compile_cache.enable(pathlib.Path(root))
    events = collections.Counter()
    jax.monitoring.register_event_listener(
        lambda name, **_: events.update([name.rpartition("/")[2]])
    )
    model = tiny_resnet(stage_sizes=(1, 1), stem_width=8, widths=(32, 64), num_classes=3)
    state, step = step_of(random_variables(model), model=model)
    parallel = DataParallel.over(jax.devices()[:1])
    compiled = parallel.compile(step, donate=True)
    state = parallel.replicate(state)
    for number in range(10):
        state, _ = compiled(state, parallel.put(image_batch(number)))
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(state)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    print(digest.hexdigest())
    print(events["cache_hits"], events["cache_misses"])
