"""Two networks unlike those of the registry, which the contract must carry: no batch statistics,
an oblong kernel, tokens, a class token and a position table."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from tl.models import registry
from tl.models.backbone import Backbone, Endpoint
from tl.models.layers import check_images, compute_endpoints, head
from tl.weights import naming
from tl.weights.schemes.scheme import Scheme


class Normed(nn.Module):
    """Convolution, group normalisation, ReLU."""

    features: int
    kernel_size: tuple
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.features, self.kernel_size, self.stride, use_bias=False, name="conv")(x)
        return nn.relu(nn.GroupNorm(num_groups=2, name="gn")(x))


class GroupNet(nn.Module):
    """Endpoints `stem`, `stage1`, `pooled` and `logits`."""

    num_classes: int = 1000
    dropout: float = 0.0
    dtype: object = jnp.float32
    param_dtype: object = jnp.float32

    @nn.compact
    def __call__(self, images, train=False, start="", stop=""):
        if not start:
            check_images(images)
        units = {
            "stem": Normed(4, (3, 5), 2, name="stem"),
            "stage1": Normed(6, (3, 3), 2, name="stage1"),
            "pooled": lambda x: jnp.mean(x, axis=(1, 2)),
        }
        endpoints = compute_endpoints(units, images, start, stop)
        if self.num_classes and not stop:
            endpoints["logits"] = head(self, endpoints.get("pooled", images))
        return endpoints


class Embed(nn.Module):
    """Patches, a class token before them, and a position table."""

    width: int
    patch: int

    @nn.compact
    def __call__(self, x):
        patches = nn.Conv(self.width, (self.patch,) * 2, self.patch, name="patch")(x)
        tokens = patches.reshape(len(x), -1, self.width)
        normal = nn.initializers.normal(0.5)
        cls = self.param("cls", normal, (1, 1, self.width))
        table = self.param("positions", normal, (1, tokens.shape[1] + 1, self.width))
        cls = jnp.broadcast_to(cls, (len(x), 1, self.width))
        return jnp.concatenate([cls, tokens], axis=1) + table


class EncoderBlock(nn.Module):
    """Attention and a dense layer, each normalised before and added after."""

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(name="norm1")(x)
        q, k, v = (nn.Dense(x.shape[-1], name=name)(y) for name in ("query", "key", "value"))
        x = x + nn.Dense(x.shape[-1], name="out")(jax.nn.dot_product_attention(*(
            t.reshape(*t.shape[:2], 2, -1) for t in (q, k, v)
        )).reshape(x.shape))  # fmt: skip
        return x + nn.Dense(x.shape[-1], name="dense")(nn.LayerNorm(name="norm2")(x))


class Vit(nn.Module):
    """Endpoints `embed`, `block1`, `block2`, `pooled` (the class token) and `logits`."""

    num_classes: int = 1000
    dropout: float = 0.0
    dtype: object = jnp.float32
    param_dtype: object = jnp.float32

    @nn.compact
    def __call__(self, images, train=False, start="", stop=""):
        if not start:
            check_images(images)
        norm = nn.LayerNorm(name="pooled")
        units = {
            "embed": Embed(8, 4, name="embed"),
            "block1": EncoderBlock(name="block1"),
            "block2": EncoderBlock(name="block2"),
            "pooled": lambda x: norm(x)[:, 0],
        }
        endpoints = compute_endpoints(units, images, start, stop)
        if self.num_classes and not stop:
            endpoints["logits"] = head(self, endpoints.get("pooled", images))
        return endpoints


def _tokens(width):
    return Endpoint(width, "tokens", leading=1)


GROUP_NET = Backbone(
    name="group_net",
    module=GroupNet,
    arguments={},
    outputs={"stem": Endpoint(4), "stage1": Endpoint(6), "pooled": Endpoint(6, "vector")},
    layers=("stem", "stage1", "head"),
    schemes=("group_net",),
    batch_stats=False,
    stride=4,
)
VIT = Backbone(
    name="vit",
    module=Vit,
    arguments={},
    outputs={
        "embed": _tokens(8),
        "block1": _tokens(8),
        "block2": _tokens(8),
        "pooled": Endpoint(8, "vector"),
    },
    layers=("embed", "block1", "block2", "pooled", "head"),
    schemes=("vit",),
    batch_stats=False,
    multiple=4,
    any_size=False,
    stride=4,
)
SCHEMES = {
    "group_net": Scheme(
        rules=(
            (r"(stem|stage1)/(conv|gn)", lambda stage, kind: f"{stage}.{kind}"),
            (r"head", lambda: "fc"),
        ),
    ),
    "vit": Scheme(
        rules=(
            (r"embed/patch", lambda: "patch_embed.proj"),
            (r"block(\d)/(\w+)", lambda block, unit: f"blocks.{block - 1}.{unit}"),
            (r"pooled", lambda: "norm"),
            (r"head", lambda: "head"),
        ),
        parameters=(
            (r"embed/cls", lambda: "cls_token"),
            (r"embed/positions", lambda: "pos_embed"),
        ),
        first="embed/patch",
    ),
}


@contextlib.contextmanager
def registered():
    """Within it, the networks and the names of their tensors are known."""
    with pytest.MonkeyPatch.context() as patch:
        for backbone in (GROUP_NET, VIT):
            patch.setitem(registry._BACKBONES, backbone.name, backbone)
        for name, scheme in SCHEMES.items():
            patch.setitem(naming.SCHEMES, name, scheme)
        yield
