"""A network and a source so small that a whole extraction takes milliseconds."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tl.models.backbone import Backbone, Endpoint
from tl.models.layers import compute_endpoints
from tl.models.resnet import ResNet
from tl.weights.load import Pretrained
from tl.weights.spec import LocalFile, Preprocessing, WeightSpec

SIZE = 4
PLAIN = Preprocessing(size=SIZE, crop_pct=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@dataclasses.dataclass
class Source:
    """Image i is filled with i modulo 256; its label is i modulo 3."""

    length: int
    image_shape: tuple | None = (SIZE, SIZE, 3)
    name: str = "toy"
    version: str = "1"
    split: str = "train"
    id_bytes: int = 8
    classes: tuple = ("a", "b", "c")

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        image = np.full((SIZE, SIZE, 3), i % 256, np.uint8)
        return {"image": image, "label": i % 3, "id": f"id{i}"}

    def labels(self):
        return np.arange(self.length, dtype=np.int32) % 3


class NoiseSource(Source):
    """Image i is noise of seed i, so that networks tell the images apart."""

    def __getitem__(self, i):
        image = np.random.default_rng(i).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        return {**super().__getitem__(i), "image": image}


class Toy(nn.Module):
    """Endpoints `stem`, the image itself, and `pooled`, its sum times the only parameter."""

    num_classes: int = 0
    dropout: float = 0.0
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, images, train=False, start="", stop=""):
        factor = self.param("factor", nn.initializers.ones, (), jnp.float32)
        units = {
            "stem": lambda x: x,
            "pooled": lambda x: (x.sum((1, 2)) * factor).astype(self.dtype),
        }
        return compute_endpoints(units, images, start, stop)


def pretrained(model, variables, backbone):
    spec = WeightSpec(
        name="toy", backbone=backbone.name, source=LocalFile("toy"), scheme="", preprocessing=PLAIN,
        licence="",
    )  # fmt: skip
    return Pretrained(spec, backbone, model, variables, sha256="0" * 64)


TOY = Backbone(
    name="toy",
    module=Toy,
    arguments={},
    outputs={"stem": Endpoint(3), "pooled": Endpoint(3, "vector")},
    layers=("factor",),
    schemes=(),
    batch_stats=False,
    stride=1,
)
RESNET = Backbone(
    name="toy_resnet",
    module=ResNet,
    arguments={},
    outputs={"stem": Endpoint(8), "stage1": Endpoint(8), "pooled": Endpoint(8, "vector")},
    layers=("stem", "stage1/block1", "head"),
    schemes=(),
    stride=4,
)


def toy(factor=1.0):
    return pretrained(Toy(), {"params": {"factor": np.float32(factor)}, "batch_stats": {}}, TOY)


def resnet():
    """A one-block ResNet with random variables, so that its batch normalisation does something."""
    model = ResNet((1,), block="basic", stem_width=8, widths=(8,), num_classes=3)
    images = jnp.zeros((1, SIZE, SIZE, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)  # compiling init takes seconds
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.uniform(0.1, 0.5, x.shape).astype(np.float32), shapes)
    return pretrained(model, variables, RESNET)
