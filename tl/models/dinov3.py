"""DINOv3's vision transformers (Siméoni et al. 2025, arXiv:2508.10104), with named endpoints.

They differ from other vision transformers in their positions: there is no table. Queries and keys
of the patches are turned by angles that follow from where a patch is (RoPE, Su et al. 2021,
arXiv:2104.09864), so that attention depends on how far two patches are apart.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from tl.models.backbone import FINAL, Backbone, Endpoint
from tl.models.layers import (
    LayerNorm,
    Train,
    check_images,
    rematerialised,
)
from tl.models.vit import (
    ACTIVATIONS,
    Attention,
    EncoderBlock,
    Final,
    LayerScale,
    Mlp,
    blocks,
    encode,
    normed,
)

PERIOD_BASE = 100.0  # of the angles; see `angles`


def angles(rows: int, columns: int, width: int) -> Float32[np.ndarray, "p f"]:
    """Returns the angles by which the queries and keys of each patch are turned.

    Height and width of the image are each from -1 to 1, whatever their number of patches, and the
    place of a patch is that of its centre.

    Args:
      rows, columns: of patches.
      width: D / H, of a head; a multiple of 4.

    Returns:
      float32 `[rows * columns, width / 2]`: those of the height, then those of the width, each 2 pi
      times the place over a period, `100 ** (4 i / width)` for i = 0 ... width / 4 - 1.
    """
    periods = PERIOD_BASE ** (np.arange(width // 4) / (width // 4))
    y, x = (2 * (np.arange(n) + 0.5) / n - 1 for n in (rows, columns))
    places = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2, 1)
    return (2 * np.pi * places / periods).reshape(rows * columns, -1).astype(np.float32)


def turned(
    x: Float[Array, "n t heads d"], by: Float32[np.ndarray, "p f"]
) -> Float[Array, "n t heads d"]:
    """Returns queries or keys turned by angles; number i and number d / 2 + i are a point.

    Args:
      x: `[N, T, H, d]`, of which the last p tokens are turned; those before are not of patches.
      by: see `angles`.
    """
    first, second = jnp.split(x[:, -len(by) :].astype(jnp.float32), 2, axis=-1)
    cos, sin = np.cos(by)[:, None], np.sin(by)[:, None]
    patches = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return jnp.concatenate([x[:, : -len(by)], patches.astype(x.dtype)], axis=1)


class Embed(nn.Module):
    """Images to tokens: class token, register tokens, patches row by row, without positions."""

    width: int
    patch: int
    registers: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n t {self.width}"]:
        """Maps `[N, h patch, w patch, 3]` to `[N, 1 + registers + h w, width]`."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        size = (self.patch, self.patch)
        patches = nn.Conv(self.width, size, size, padding="VALID", name="patch", **types)(images)
        count = len(patches)

        def tokens(name: str, number: int) -> jax.Array:
            normal = nn.initializers.truncated_normal(0.02)
            token = self.param(name, normal, (1, number, self.width), self.param_dtype)
            return jnp.broadcast_to(token, (count, number, self.width)).astype(self.dtype)

        leading = [tokens("cls", 1), tokens("registers", self.registers)]
        return jnp.concatenate([*leading, patches.reshape(count, -1, self.width)], axis=1)


class QueryValueDense(nn.Module):
    """Queries, keys and values as one dense layer, in which the keys have no bias."""

    features: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, inputs: Float[Array, "n t d"]) -> Float[Array, "n t {self.features}"]:
        """Maps `[N, T, D]` to `[N, T, features]`."""
        shape = (inputs.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, self.param_dtype)
        query, value = (
            self.param(name, nn.initializers.zeros, (self.features // 3,), self.param_dtype)
            for name in ("query_bias", "value_bias")
        )
        bias = jnp.concatenate([query, jnp.zeros_like(query), value])
        return inputs.astype(self.dtype) @ kernel.astype(self.dtype) + bias.astype(self.dtype)


class GatedMlp(nn.Module):
    """Two dense layers side by side, one a gate for the other, and one after (SwiGLU).

    Shazeer 2020, arXiv:2002.05202. The hidden ones are four times wider.
    """

    dense: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
        """Maps `[N, T, D]` to the same shape."""
        gate, y = (self.dense(4 * x.shape[-1], name=name)(x) for name in ("gate", "up"))
        return self.dense(x.shape[-1], name="fc2")(nn.silu(gate) * y)


class DINOv3(nn.Module):
    """DINOv3 with endpoints `embed`, `block1`..., `pooled` and `logits`.

    `block1`... are the outputs of the blocks, not normalised. `pooled` is the normalised class
    token, as in the authors' code.

    Attributes:
      width: D, of a token.
      depth: number of blocks.
      heads: of the attention.
      patch: side of a patch in pixels.
      registers: number of register tokens.
      gated: whether the MLPs are gated.
      qkv_bias: whether queries and values have a bias, as in transformers' files. Those of the
        published sets are zeros, and timm leaves them out.
      num_classes: outputs of the head; 0 for no head and no `logits`.
      dropout: see `tl.models.layers.head`.
      drop_path, remat: as of `tl.models.vit.VisionTransformer`.
      norm_epsilon: added to the variance in layer normalisations.
      dtype: compute type; angles and the statistics of layer normalisations are float32 always.
      param_dtype: type of the parameters.
    """

    width: int
    depth: int
    heads: int
    patch: int = 16
    registers: int = 4
    gated: bool = False
    qkv_bias: bool = False
    num_classes: int = 1000
    dropout: float = 0.0
    drop_path: float = 0.0
    remat: bool = False
    norm_epsilon: float = 1e-5
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, train: Train = False, start: str = "", stop: str = ""
    ) -> dict[str, Float[Array, "n ..."]]:
        """Runs the network; arguments as in `tl.models.resnet.ResNet`, but `train` has no effect.

        Tokens do not say where they are, so those of `start` must be of square images.

        Returns:
          Each endpoint after `start` to its output: tokens `[N, 1 + registers + patches, D]`,
          `pooled` `[N, D]` and, unless num_classes is 0, `logits` float32 `[N, num_classes]`.
        """
        if not start:
            check_images(images)
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm = functools.partial(
            LayerNorm,
            epsilon=self.norm_epsilon,
            param_dtype=self.param_dtype,
        )
        dense = functools.partial(nn.Dense, **types)
        qkv = QueryValueDense if self.qkv_bias else functools.partial(nn.Dense, use_bias=False)
        by = angles(*self._grid(images), self.width // self.heads)
        block = functools.partial(
            rematerialised(EncoderBlock, self.remat),
            functools.partial(
                Attention,
                self.heads,
                dense,
                functools.partial(qkv, **types),
                functools.partial(turned, by=by),
            ),
            functools.partial(GatedMlp, dense)
            if self.gated
            else functools.partial(Mlp, ACTIVATIONS["gelu"], dense),
            norm,
            functools.partial(LayerScale, self.param_dtype),
        )
        embed = Embed(self.width, self.patch, self.registers, **types, name="embed")
        return encode(self, embed, block, Final(norm, name=FINAL), images, start, stop)

    def _grid(self, x: jax.Array) -> tuple[int, int]:
        """Returns rows and columns of the patches of images, or of tokens of square images."""
        if x.ndim == 4:
            return x.shape[1] // self.patch, x.shape[2] // self.patch
        if x.ndim == 2:  # `pooled`, after which nothing is turned
            return 1, 1
        side = math.isqrt(x.shape[1] - 1 - self.registers)
        if side**2 != x.shape[1] - 1 - self.registers:
            raise ValueError(f"expected tokens of square images, got {x.shape[1]} tokens")
        return side, side


def _dinov3(name: str, width: int, gated: bool = False) -> Backbone:
    depth, patch, registers = 12, 16, 4
    tokens = Endpoint(width, "tokens", leading=1 + registers)
    return Backbone(
        name=name,
        module=DINOv3,
        arguments={
            "width": width,
            "depth": depth,
            "heads": width // 64,
            "patch": patch,
            "registers": registers,
            "gated": gated,
        },
        outputs={
            **dict.fromkeys(["embed", *blocks(depth)], tokens),
            FINAL: Endpoint(width, "vector"),
        },
        layers=("embed", *blocks(depth), FINAL, "head"),
        schemes=("timm_dinov3", "huggingface_dinov3_vit"),
        batch_stats=False,
        multiple=patch,
        stride=patch,
        last_norm=normed,
        step_cost=3.0,
    )


BACKBONES = (
    _dinov3("vit_small_patch16_dinov3", 384),
    _dinov3("vit_small_plus_patch16_dinov3", 384, gated=True),
    _dinov3("vit_base_patch16_dinov3", 768),
)
