"""Vision transformers (Dosovitskiy et al. 2020, arXiv:2010.11929), with named endpoints."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tl.models.backbone import FINAL, Backbone, Endpoint
from tl.models.layers import (
    DropPath,
    LayerNorm,
    Train,
    check_images,
    compute_endpoints,
    drop_rates,
    head,
    rematerialised,
)

Activation = Callable[[jax.Array], jax.Array]

ACTIVATIONS: dict[str, Activation] = {
    "gelu": functools.partial(nn.gelu, approximate=False),
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),  # OpenAI's CLIP
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),  # transformers' SigLIP
}
POOLS = ("cls", "attention")
# How the position table of one image size becomes that of another.
RESIZES = ("antialias", "plain", "offset")
_OFFSET = 0.1  # added to the new side in DINOv2's code; it shifts where the table is sampled


class Embed(nn.Module):
    """Images to tokens: class token, register tokens, patches row by row; each with its position.

    Attributes:
      width: of a token.
      patch: side of a patch in pixels.
      grid: side of the position table in patches.
      cls: whether there is a class token.
      registers: number of register tokens (Darcet et al. 2023, arXiv:2309.16588), which have no
        position.
      cls_position: whether the table has an entry for the class token, its first.
      resize: see `resize_positions`.
      pre_norm: whether the tokens are normalised (CLIP); the patches have no bias then.
      norm: makes a normalisation.
      dtype, param_dtype: compute type and type of the parameters.
    """

    width: int
    patch: int
    grid: int
    cls: bool
    registers: int
    cls_position: bool
    resize: str
    pre_norm: bool
    norm: Any
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n t {self.width}"]:
        """Maps `[N, h patch, w patch, 3]` to `[N, cls + registers + h w, width]`."""
        patches = nn.Conv(
            self.width,
            (self.patch, self.patch),
            strides=self.patch,
            padding="VALID",
            use_bias=not self.pre_norm,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="patch",
        )(images)
        count, rows, columns, width = patches.shape

        def tokens(name: str, number: int) -> jax.Array:
            normal = nn.initializers.truncated_normal(0.02)
            return self.param(name, normal, (1, number, width), self.param_dtype)

        leading = [tokens("cls", 1)] if self.cls else []
        table = tokens("positions", self.grid**2 + self.cls_position)
        if self.cls_position:
            leading, table = [leading[0] + table[:, :1]], table[:, 1:]
        table = resize_positions(table, (rows, columns), self.resize)
        if self.registers:
            leading.append(tokens("registers", self.registers))
        x = jnp.concatenate(
            [jnp.broadcast_to(t, (count, *t.shape[1:])).astype(self.dtype) for t in leading]
            + [patches.reshape(count, rows * columns, width) + table.astype(self.dtype)],
            axis=1,
        )
        return self.norm(name="norm")(x) if self.pre_norm else x


def resize_positions(
    table: Float[Array, "1 g d"], shape: tuple[int, int], how: str
) -> Float[Array, "1 t d"]:
    """Returns a position table for another number of patches, by cubic interpolation.

    Args:
      table: `[1, g * g, D]`, row by row.
      shape: rows and columns of patches.
      how: `antialias`, when it shrinks (timm); `plain`, as torch's `bicubic` (transformers);
        `offset`, as `plain` with scales of (rows + 0.1) / g and (columns + 0.1) / g (DINOv2's own
        code, without registers).

    Returns:
      `[1, rows * columns, D]`; the table itself if it fits.
    """
    side, width = math.isqrt(table.shape[1]), table.shape[-1]
    if shape == (side, side):
        return table
    square = table.reshape(1, side, side, width)
    if how == "antialias":
        resized = jax.image.resize(square, (1, *shape, width), "cubic", precision="highest")
    else:
        offset = _OFFSET if how == "offset" else 0.0
        resized = jax.image.scale_and_translate(
            square,
            (1, *shape, width),
            (1, 2),
            scale=jnp.array([(n + offset) / side for n in shape], jnp.float32),
            translation=jnp.zeros(2),
            method="cubic-pytorch",
            antialias=False,
            precision=jax.lax.Precision.HIGHEST,
        )
    return resized.reshape(1, -1, width)


def fit_positions(
    params: Mapping[str, Any], module: "VisionTransformer", size: int
) -> dict[str, Any]:
    """Returns the parameters with the position table that the module computes for images of a size.

    Args:
      params: of a `VisionTransformer`.
      module: with their `grid`.
      size: side of the images in pixels.
    """
    table = jnp.asarray(params["embed"]["positions"])
    leading, side = table.shape[1] - module.grid**2, size // module.patch
    fitted = resize_positions(table[:, leading:], (side, side), module.resize)
    whole = np.asarray(jnp.concatenate([table[:, :leading], fitted], axis=1))
    return {**params, "embed": {**params["embed"], "positions": whole}}


class Attention(nn.Module):
    """Multi-head attention; queries, keys and values are one dense layer.

    Attributes:
      heads: number of heads.
      dense: makes a dense layer.
      qkv: makes that of queries, keys and values; None for `dense`.
      turned: what becomes of queries and of keys `[N, T, heads, D / heads]`; None if they stay.
    """

    heads: int
    dense: Any
    qkv: Any = None
    turned: Callable[[jax.Array], jax.Array] | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "n t d"], asking: Float[Array, "n s d"] | None = None
    ) -> Float[Array, "n s d"]:
        """Maps `[N, T, D]` to the same shape, or to that of the tokens that ask, `[N, S, D]`."""
        tokens = x if asking is None else jnp.concatenate([asking, x], axis=1)
        qkv = (self.qkv or self.dense)(3 * x.shape[-1], name="qkv")(tokens)
        q, k, v = jnp.moveaxis(qkv.reshape(*tokens.shape[:2], 3, self.heads, -1), 2, 0)
        if self.turned:
            q, k = self.turned(q), self.turned(k)
        if asking is not None:  # they see the others, and not themselves
            q, k, v = q[:, : asking.shape[1]], k[:, asking.shape[1] :], v[:, asking.shape[1] :]
        with jax.numpy_dtype_promotion("standard"):  # which it relies on in bfloat16
            y = jax.nn.dot_product_attention(q, k, v)
        return self.dense(x.shape[-1], name="proj")(y.reshape(*y.shape[:2], -1))


class Mlp(nn.Module):
    """Two dense layers; the hidden one is four times wider."""

    activation: Activation
    dense: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
        """Maps `[N, T, D]` to the same shape."""
        y = self.activation(self.dense(4 * x.shape[-1], name="fc1")(x))
        return self.dense(x.shape[-1], name="fc2")(y)


class LayerScale(nn.Module):
    """A factor for each feature (Touvron et al. 2021, arXiv:2103.17239)."""

    param_dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
        """Maps `[N, T, D]` to the same shape."""
        small = nn.initializers.constant(1e-5)
        return x * self.param("gamma", small, x.shape[-1:], self.param_dtype).astype(x.dtype)


class EncoderBlock(nn.Module):
    """Attention and an MLP, each normalised before, scaled after, and added.

    Attributes:
      attention, mlp, norm, scale: make the layers; `scale` is None for none.
      drop: rate of `tl.models.layers.DropPath` of both.
    """

    attention: Any
    mlp: Any
    norm: Any
    scale: Any = None
    drop: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
        """Maps `[N, T, D]` to the same shape."""
        for number, part in ((1, self.attention(name="attn")), (2, self.mlp(name="mlp"))):
            y = part(self.norm(name=f"norm{number}")(x))
            y = self.scale(name=f"ls{number}")(y) if self.scale else y
            x = x + (DropPath(self.drop, name=f"drop{number}")(y) if self.drop else y)
        return x


class Final(nn.Module):
    """The normalised class token."""

    norm: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n d"]:
        """Maps `[N, T, D]` to `[N, D]`."""
        return self.norm(name="norm")(x[:, 0])


def normed(model: Any, variables: Any, tokens: Float[Array, "n t d"]) -> Float[Array, "n t d"]:
    """Returns the tokens of any block, normalised as the last ones are before `pooled`.

    Args:
      model: a vision transformer whose last normalisation is `pooled/norm`.
      variables: of it.
      tokens: `[N, T, D]`.
    """
    norm: Any = LayerNorm(epsilon=model.norm_epsilon, param_dtype=model.param_dtype)
    found: jax.Array = norm.apply({"params": variables["params"][FINAL]["norm"]}, tokens)
    return found


class AttentionPool(nn.Module):
    """A learned token asks the normalised tokens; to what it gets an MLP is added (SigLIP)."""

    attention: Any
    mlp: Any
    norm: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n d"]:
        """Maps `[N, T, D]` to `[N, D]`."""
        x = self.norm(name="norm")(x)
        normal = nn.initializers.truncated_normal(0.02)
        probe = self.param("probe", normal, (1, 1, x.shape[-1]), self.param_dtype)
        asking = jnp.broadcast_to(probe, (len(x), 1, x.shape[-1])).astype(x.dtype)
        y = self.attention(name="attn")(x, asking)
        return (y + self.mlp(name="mlp")(self.norm(name="norm2")(y)))[:, 0]


class VisionTransformer(nn.Module):
    """Vision transformer with endpoints `embed`, `block1`..., `pooled` and `logits`.

    `block1`... are the outputs of the blocks, not normalised.

    Attributes:
      width: D, of a token.
      depth: number of blocks.
      heads: of the attention.
      patch: side of a patch in pixels.
      grid: side of the position table in patches, that is of the images of the weights. Other
        images get a table of their size in each call, from the same parameters.
      cls, registers, cls_position, resize, pre_norm: see `Embed`.
      pool: what `pooled` is: `cls`, the normalised class token, or `attention` (`AttentionPool`).
      layer_scale: whether blocks scale what they add (DINOv2).
      activation: of the MLPs, a key of `ACTIVATIONS`.
      num_classes: outputs of the head; 0 for no head and no `logits`.
      dropout: see `tl.models.layers.head`.
      drop_path: rate of the last block's `tl.models.layers.DropPath`; see `drop_rates` there.
      remat: whether blocks are computed again in the backward pass, see `tl.models.layers`.
      norm_epsilon: added to the variance in layer normalisations.
      dtype: compute type; the statistics of layer normalisations are float32 always.
      param_dtype: type of the parameters.
    """

    width: int
    depth: int
    heads: int
    patch: int = 16
    grid: int = 14
    cls: bool = True
    registers: int = 0
    cls_position: bool = True
    resize: str = "antialias"
    pre_norm: bool = False
    pool: str = "cls"
    layer_scale: bool = False
    activation: str = "gelu"
    num_classes: int = 1000
    dropout: float = 0.0
    drop_path: float = 0.0
    remat: bool = False
    norm_epsilon: float = 1e-6
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: jax.Array, train: Train = False, start: str = "", stop: str = ""
    ) -> dict[str, Float[Array, "n ..."]]:
        """Runs the network; arguments as in `tl.models.resnet.ResNet`, but `train` has no effect.

        Returns:
          Each endpoint after `start` to its output: tokens `[N, cls + registers + patches, D]`,
          `pooled` `[N, D]` and, unless num_classes is 0, `logits` float32 `[N, num_classes]`.
        """
        if not start:
            check_images(images)
        for given, known in (
            (self.activation, tuple(ACTIVATIONS)), (self.resize, RESIZES), (self.pool, POOLS)
        ):  # fmt: skip
            if given not in known:
                raise ValueError(f"expected one of {known}, got {given!r}")
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm = functools.partial(
            LayerNorm,
            epsilon=self.norm_epsilon,
            param_dtype=self.param_dtype,
        )
        dense = functools.partial(nn.Dense, **types)
        embed = functools.partial(
            Embed,
            self.width,
            self.patch,
            self.grid,
            self.cls,
            self.registers,
            self.cls_position,
            self.resize,
            self.pre_norm,
            norm,
            **types,
        )
        attention = functools.partial(Attention, self.heads, dense)
        mlp = functools.partial(Mlp, ACTIVATIONS[self.activation], dense)
        scale = functools.partial(LayerScale, self.param_dtype) if self.layer_scale else None
        encoder_block = rematerialised(EncoderBlock, self.remat)
        block = functools.partial(encoder_block, attention, mlp, norm, scale)
        pool: Callable[[jax.Array], jax.Array]
        if self.pool == "attention":
            pool = AttentionPool(attention, mlp, norm, self.param_dtype, name=FINAL)
        else:
            pool = Final(norm, name=FINAL)
        return encode(self, embed(name="embed"), block, pool, images, start, stop)


def encode(
    model: Any,
    embed: Callable[[jax.Array], jax.Array],
    block: Callable[..., Callable[[jax.Array], jax.Array]],
    pool: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    start: str,
    stop: str,
) -> dict[str, jax.Array]:
    """Returns the endpoints of a vision transformer, whose parts are given.

    Args:
      model: the module, whose `__call__` this is; it has `depth`, `drop_path` and `num_classes`.
      embed: images to tokens.
      block: makes a block of a `name` and a rate `drop`.
      pool: tokens to `pooled`.
      images, start, stop: of `__call__`.
    """
    rates = drop_rates(model.drop_path, model.depth)
    units: dict[str, Callable[[jax.Array], jax.Array]] = {
        "embed": embed,
        **{
            name: block(name=name, drop=rate)
            for name, rate in zip(blocks(model.depth), rates, strict=True)
        },
        FINAL: pool,
    }
    endpoints = compute_endpoints(units, images, start, stop)
    if model.num_classes and not stop:
        endpoints["logits"] = head(model, endpoints.get(FINAL, images))
    return endpoints


def blocks(depth: int) -> list[str]:
    """Returns the names of the blocks."""
    return [f"block{i + 1}" for i in range(depth)]


def _vit(name: str, width: int, schemes: tuple[str, ...], **arguments: Any) -> Backbone:
    depth = 12
    usual = {"patch": 16, "grid": 14, "cls": True, "registers": 0, "cls_position": True}
    sizes = {"width": width, "depth": depth, "heads": width // 64}
    arguments = {**sizes, **usual, **arguments}
    patch = arguments["patch"]
    tokens = Endpoint(width, "tokens", leading=arguments["cls"] + arguments["registers"])
    return Backbone(
        name=name,
        module=VisionTransformer,
        arguments=arguments,
        outputs={
            **dict.fromkeys(["embed", *blocks(depth)], tokens),
            FINAL: Endpoint(width, "vector"),
        },
        layers=("embed", *blocks(depth), FINAL, "head"),
        schemes=schemes,
        batch_stats=False,
        multiple=patch,
        stride=patch,
        last_norm=normed,
        step_cost=3.0,
    )


_TINY, _SMALL, _BASE = 192, 384, 768  # widths
_PLAIN = ("timm_vit", "torchvision_vit", "huggingface_vit")
_DINOV2: dict[str, Any] = {"patch": 14, "grid": 37, "layer_scale": True}
_WITH_REGISTERS = ("timm_vit", "huggingface_dinov2_with_registers")
_REGISTERS: dict[str, Any] = {**_DINOV2, "registers": 4, "cls_position": False}
_CLIP: dict[str, Any] = {"pre_norm": True, "norm_epsilon": 1e-5}

BACKBONES = (
    _vit("vit_tiny_patch16", _TINY, _PLAIN),
    _vit("vit_small_patch16", _SMALL, _PLAIN),
    _vit("vit_base_patch16", _BASE, _PLAIN),
    _vit("vit_small_patch32", _SMALL, _PLAIN, patch=32, grid=7),
    _vit("vit_base_patch32", _BASE, _PLAIN, patch=32, grid=7),
    _vit("vit_small_patch8", _SMALL, _PLAIN, patch=8, grid=28),
    _vit("vit_base_patch8", _BASE, _PLAIN, patch=8, grid=28),
    _vit("vit_small_patch14", _SMALL, ("timm_vit", "huggingface_dinov2"), **_DINOV2),
    _vit("vit_base_patch14", _BASE, ("timm_vit", "huggingface_dinov2"), **_DINOV2),
    _vit("vit_small_patch14_reg4", _SMALL, _WITH_REGISTERS, **_REGISTERS),
    _vit("vit_base_patch14_reg4", _BASE, _WITH_REGISTERS, **_REGISTERS),
    _vit("vit_base_patch16_clip", _BASE, ("timm_vit", "huggingface_clip"), **_CLIP),
    _vit(
        "vit_base_patch32_clip", _BASE, ("timm_vit", "huggingface_clip"), patch=32, grid=7, **_CLIP
    ),
    _vit(
        "vit_base_patch16_siglip",
        _BASE,
        ("timm_vit", "huggingface_siglip"),
        cls=False,
        cls_position=False,
        pool="attention",
    ),
)
