"""Computes a network's features: a pure function from uint8 images to pooled endpoints."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Real, Shaped

from tl import devices
from tl.data.loader import batches
from tl.data.sources import Source, drafted
from tl.data.transforms import Prepare, host_and_device
from tl.errors import UserError, nearest
from tl.files import Log
from tl.models.backbone import LOGITS, Backbone, LastNorm, Network
from tl.models.folding import fold_batch_norm
from tl.weights.load import Pretrained
from tl.weights.spec import Preprocessing

PIXELS = "pixels"
NORMED = "normed_"  # before a pooling
# On a CPU a unit of the network computes about this many pixels of its output at a time, so that
# the output of a layer is still in the cache when the next layer reads it. Of 1,024, 2,048, ...
# 8,192 it is the fastest for ResNet-50 at 112 and 224 px: 1.2 times as fast as the whole batch in
# float32, 1.3 times in bfloat16.
CHUNK_PIXELS = 2048
DTYPES = ("float32", "bfloat16")

Features = dict[str, np.ndarray]
Computed = Iterator[tuple[dict[str, Any], Features]]
# (variables, images uint8 [N, H, W, 3]) -> endpoint to float32 [N, D]
FeatureFunction = Callable[[Any, jax.Array], dict[str, jax.Array]]
Compiled = devices.Mapped  # a batch of images -> endpoint to features


@dataclasses.dataclass(frozen=True)
class Extraction:
    """What to extract, and how.

    Attributes:
      endpoints: names of the network's outputs; `pixels` is the source's uint8 image, flattened.
      pooling: how spatial endpoints become vectors: `mean`, `max`, `gridN` (means over an N x N
        grid of cells) or `none` (every value); of tokens also `cls` (the class token) or `cls_mean`
        (the class token, then the mean of the patches). With `normed_` before it, such as
        `normed_cls`, of tokens that the network's last normalisation was applied to.
      dtype: type that the network computes in: `float32`, in full precision on every platform, or
        `bfloat16`. Features are always float32.
      batch_size: images on all devices together, rounded up to a multiple of their number.
      fold_batch_norm: whether to fold batch normalisation into the convolutions.
      mapper: see `tl.devices.map_over_devices`.
      threads: of the loader.
    """

    endpoints: tuple[str, ...]
    pooling: str = "mean"
    dtype: str = "float32"
    batch_size: int = 256
    fold_batch_norm: bool = True
    mapper: str = "pmap"
    threads: int = 4

    def __post_init__(self) -> None:
        known = rf"({NORMED})?(mean|max|none|cls|cls_mean|grid[1-9]\d*)"
        if not re.fullmatch(known, self.pooling):
            raise UserError(
                "expected 'mean', 'max', 'none', 'gridN', 'cls' or 'cls_mean', or one of them "
                f"after {NORMED!r}, got {self.pooling!r}",
                field="extract.pooling",
            )
        if self.dtype not in DTYPES:
            raise UserError(f"expected one of {DTYPES}, got {self.dtype!r}", field="extract.dtype")
        if self.threads < 0:
            raise UserError(f"expected at least 0, got {self.threads}", field="extract.threads")
        if self.batch_size < 1:
            raise UserError(
                f"expected at least 1, got {self.batch_size}", field="extract.batch_size"
            )
        if not self.endpoints or len(set(self.endpoints)) < len(self.endpoints):
            raise UserError(f"expected endpoints, each named once, got {self.endpoints}")


def widths(
    network: Pretrained, size: int, extraction: Extraction, source: Source
) -> dict[str, int]:
    """Returns the number of features D of each endpoint of an extraction.

    Args:
      network: the frozen network.
      size: side of its images in pixels.
      extraction: endpoints and pooling.
      source: its `image_shape` gives the width of `pixels`.

    Raises:
      UserError: no such endpoint; `pixels` of images that vary in size; an image size that the
        network does not take; the class token of an endpoint that has none.
    """
    network.backbone.check_size(size, network.spec.preprocessing.size)
    shapes = output_shapes(network.model, size)
    for name in extraction.endpoints:
        if name != PIXELS and name not in shapes:
            raise UserError(
                f"the network has no endpoint {name!r}{nearest(name, [*shapes, PIXELS])}; "
                f"all of them: {', '.join([*shapes, PIXELS])}"
            )
    if PIXELS in extraction.endpoints and source.image_shape is None:
        raise UserError(
            f"the endpoint {PIXELS!r} needs images of one small size; those of {source.name!r} "
            "vary in size"
        )
    leading = leading_tokens(network.backbone)
    pooling = extraction.pooling.removeprefix(NORMED)
    if pooling != extraction.pooling and not network.backbone.last_norm:
        raise UserError(
            f"{network.backbone.name} has no last normalisation of tokens; "
            f"expected {pooling!r}, got {extraction.pooling!r}",
            field="extract.pooling",
        )
    for name in extraction.endpoints:
        spatial = name in shapes and len(shapes[name].shape) > 2
        if pooling.startswith("cls") and spatial and name not in leading:
            raise UserError(
                f"the endpoint {name!r} of {network.backbone.name} has no class token; expected "
                f"'mean', 'max', 'none' or 'gridN', got {extraction.pooling!r}",
                field="extract.pooling",
            )

    def width(name: str) -> int:
        if name == PIXELS:
            return math.prod(source.image_shape or ())
        pooled = functools.partial(pool, pooling=pooling, leading=leading.get(name, 0))
        return jax.eval_shape(pooled, shapes[name]).shape[-1]

    return {name: width(name) for name in extraction.endpoints}


def leading_tokens(backbone: Backbone) -> dict[str, int]:
    """Returns each endpoint that has class or register tokens, to the number of those."""
    return {name: output.leading for name, output in backbone.outputs.items() if output.leading}


@functools.lru_cache(maxsize=16)
def output_shapes(model: Network, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns each endpoint, in order of computation, to the shape and type of its output.

    Args:
      model: the network.
      size: side in pixels of the one image that the shapes are for.
    """
    order = []

    def outputs(images: jax.Array) -> dict[str, jax.Array]:
        outputs = model.init_with_output(jax.random.key(0), images)[0]
        order.extend(outputs)  # JAX sorts the result by name
        return outputs

    shapes = jax.eval_shape(outputs, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    return {name: shapes[name] for name in order}


def compute_rows(
    network: Pretrained,
    source: Source,
    preprocessing: Preprocessing,
    extraction: Extraction,
    rows: np.ndarray,
    *,
    log: Log = print,
) -> Computed:
    """Returns the batches of some rows with their features, in order.

    Out of memory on a device, the rest goes on in batches of half the size.

    Args:
      network, source, preprocessing, extraction, log: as in `extract`.
      rows: int `[n]` of the source.

    Returns:
      An iterator of a batch of `tl.data.loader.batches` and, of the same length, endpoint to
      float32 `[B, D]`.

    Raises:
      UserError: too little memory for one image on each device; features that are not finite.
    """
    compiled = compile_features(network, source.image_shape, preprocessing, extraction)
    # By the source's length, not that of `rows`: all calls of a run share one compiled shape.
    batch_size = min(extraction.batch_size, len(source))
    return compute_with(
        compiled, source, preprocessing, extraction, rows, batch_size=batch_size, log=log
    )


def compute_with(
    compiled: Compiled,
    source: Source,
    preprocessing: Preprocessing,
    extraction: Extraction,
    rows: np.ndarray,
    *,
    batch_size: int,
    log: Log = print,
) -> Computed:
    """As `compute_rows`, with a function that `compile_features` has made.

    Args:
      compiled: of a network, `source.image_shape`, `preprocessing` and `extraction`.
      source, preprocessing, extraction, rows, log: as in `compute_rows`.
      batch_size: images of all devices together, rounded up to a multiple of their number.
    """
    transform = host_and_device(source.image_shape, preprocessing)[0]
    source = drafted(source, preprocessing)
    count = compiled.device_count
    batch_size = -(-batch_size // count) * count
    while len(rows):
        loaded = batches(
            source, batch_size, indices=rows, transform=transform, threads=extraction.threads
        )
        started = devices.prefetch(loaded, lambda batch: (batch, compiled(batch["image"])))
        try:
            for batch, outputs in started:
                features = compiled.fetch(outputs)
                _check_finite(batch, features)
                rows = rows[np.sum(batch["mask"]) :]
                yield batch, features
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if isinstance(error, jax.errors.JaxRuntimeError) and (
                "RESOURCE_EXHAUSTED" not in str(error)
            ):
                raise
            smaller = batch_size // 2 // count * count
            if not smaller:
                raise UserError(
                    f"{count} device(s) have too little memory for {batch_size} image(s) of "
                    f"{preprocessing.size} px and endpoints {', '.join(extraction.endpoints)}; "
                    "make the images smaller, name fewer endpoints or compute in bfloat16"
                ) from error
            log(f"out of memory with batches of {batch_size} images; going on with {smaller}")
            batch_size = smaller


def compile_features(
    network: Pretrained,
    image_shape: tuple[int, int, int] | None,
    preprocessing: Preprocessing,
    extraction: Extraction,
) -> Compiled:
    """Returns the function of a batch of images uint8 `[B, H, W, 3]` -> endpoint to `[B, D]`.

    Args:
      network, preprocessing, extraction: as in `extract`.
      image_shape: of the source.
    """
    function, variables = computing_function(
        network,
        preprocessing,
        extraction,
        host_and_device(image_shape, preprocessing)[1],
        devices.platform(),
    )
    return devices.map_over_devices(function, variables, extraction.mapper)


def computing_function(
    network: Pretrained,
    preprocessing: Preprocessing,
    extraction: Extraction,
    prepare: Prepare,
    platform: str = "",
) -> tuple[FeatureFunction, Any]:
    """Returns a function as `feature_function` does, and the variables that it takes.

    Args:
      network, preprocessing, extraction: as in `extract`.
      prepare: as in `feature_function`.
      platform: that it will run on, as JAX calls it; '' for any.
    """
    model: Any = network.model.clone(dtype=jnp.dtype(extraction.dtype))
    variables = network.variables
    if extraction.fold_batch_norm and network.backbone.batch_stats:
        variables = fold_batch_norm(variables, model.norm_epsilon, model.dtype)
        model = model.clone(folded=True)
    function = feature_function(
        model,
        preprocessing,
        prepare,
        extraction.endpoints,
        extraction.pooling,
        CHUNK_PIXELS if platform == "cpu" else None,
        tuple(leading_tokens(network.backbone).items()),
        network.backbone.last_norm,
    )
    if platform == "gpu":
        return _taking_outputs_first(function), _transpose_kernels(variables, (3, 0, 1, 2))
    return function, variables


@functools.lru_cache(maxsize=16)
def _taking_outputs_first(function: FeatureFunction) -> FeatureFunction:
    """Returns the function of the same variables, whose kernels are [features, kh, kw, c].

    So cuDNN takes the kernels. From any other order a GPU would transpose them in every call:
    0.45 ms for ResNet-50 on an H100, whose 256 images take 7 ms.
    """

    def features(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        return function(_transpose_kernels(variables, (1, 2, 3, 0)), images)

    return features


def _transpose_kernels(variables: Any, axes: tuple[int, ...]) -> Any:
    def transposed(leaf: Any) -> Any:
        return leaf.transpose(axes) if leaf.ndim == 4 else leaf

    return jax.tree.map(transposed, variables)


@functools.lru_cache(maxsize=16)
def feature_function(
    model: Network,
    preprocessing: Preprocessing,
    prepare: Prepare,
    endpoints: tuple[str, ...],
    pooling: str,
    chunk_pixels: int | None = None,
    leading: tuple[tuple[str, int], ...] = (),
    last_norm: LastNorm | None = None,
) -> Callable[[Any, Real[Array, "n h w c"]], dict[str, Float[Array, "n _"]]]:
    """Returns a pure function (variables, images `[N, H, W, 3]`) -> endpoint to `[N, D]`.

    Equal arguments give the same object, so that all splits of a data set share compiled programs.

    Args:
      model, preprocessing, endpoints, pooling: as in `extract`.
      prepare: (images as loaded, preprocessing) -> normalised images; loaded ones are uint8.
      chunk_pixels: pixels of output that each unit of the network, from one endpoint to the next,
        computes at a time, about; None for the whole batch at once.
      leading: (endpoint, number of class and register tokens), see `pool`.
      last_norm: of the contract, see `Backbone`; needed for a pooling that begins with NORMED.
    """
    leading_of = dict(leading)
    pooling_of = pooling.removeprefix(NORMED)
    last = [name for name in output_shapes(model, preprocessing.size) if name in endpoints][-1:]
    stop = "" if last == ["logits"] else "".join(last)

    def in_chunks(variables: Any, images: jax.Array, pixels: int) -> dict[str, jax.Array]:
        """Runs the network unit by unit, up to the last of `endpoints`."""
        shapes = output_shapes(model, preprocessing.size)
        wanted = [name in endpoints for name in shapes]
        outputs, values, start = {}, images, ""
        for name in list(shapes)[: len(wanted) - wanted[::-1].index(True)]:

            def unit(x: jax.Array, start: str = start, name: str = name) -> jax.Array:
                x = x if start else prepare(x, preprocessing)
                stop = "" if name == LOGITS else name
                return model.apply(variables, x, train=False, start=start, stop=stop)[name]

            outputs[name] = values = _map_chunks(unit, values, shapes[name].shape, pixels)
            start = name
        return outputs

    @devices.in_full_precision
    def features(variables: Any, images: Real[Array, "n h w c"]) -> dict[str, Float[Array, "n _"]]:
        if chunk_pixels and set(endpoints) != {PIXELS}:
            outputs = in_chunks(variables, images, chunk_pixels)
        else:
            x = prepare(images, preprocessing)
            outputs = model.apply(variables, x, train=False, stop=stop)
        if PIXELS in endpoints:
            outputs[PIXELS] = images.reshape(len(images), -1)
        if last_norm and pooling != pooling_of:
            outputs = {
                name: last_norm(model, variables, value) if value.ndim == 3 else value
                for name, value in outputs.items()
                if name in endpoints
            }
        return {
            name: pool(outputs[name], pooling_of, leading_of.get(name, 0)) for name in endpoints
        }

    return features


def _map_chunks(
    unit: Callable[[jax.Array], jax.Array], x: jax.Array, shape: tuple[int, ...], pixels: int
) -> jax.Array:
    """Returns `unit(x)`, computed in equal parts with about `pixels` pixels of output each.

    Args:
      shape: of the unit's output for one image, `[1, h, w, c]` or `[1, D]`.
    """
    wanted = max(1, pixels // math.prod(shape[1:-1]))
    size = max(n for n in range(1, min(wanted, len(x)) + 1) if len(x) % n == 0)
    if len(x) <= wanted or 2 * size < wanted:  # a small batch, or no divisor near `wanted`
        return unit(x)
    chunks = jax.lax.map(unit, x.reshape(-1, size, *x.shape[1:]))
    return chunks.reshape(len(x), *chunks.shape[2:])


def pool(values: Shaped[Array, "n ..."], pooling: str, leading: int = 0) -> Float32[Array, "n d"]:
    """Returns an endpoint as features, float32 `[N, D]`.

    Args:
      values: a map `[N, h, w, C]`, tokens `[N, T, C]`, or a vector `[N, D]`, which is returned as
        float32.
      pooling: see `Extraction`. Cell i of `gridN` covers the rows from floor(i h / N) to
        ceil((i + 1) h / N), as in PyTorch's adaptive average pooling; D = N * N * C. `none` gives
        every value of a map or of all tokens.
      leading: number of class and register tokens, the class token first; only `none`, `cls` and
        `cls_mean` use them. The tokens after them belong to patches, and are pooled as a square
        map, row by row.
    """
    values = values.astype(jnp.float32)
    if values.ndim == 2:
        return values
    if pooling == "none":
        return values.reshape(values.shape[0], -1)
    if values.ndim == 3:
        patches = values[:, leading:]
        if pooling == "cls":
            return values[:, 0]
        if pooling == "cls_mean":
            return jnp.concatenate([values[:, 0], patches.mean(1)], axis=1)
        side = math.isqrt(patches.shape[1])
        values = patches.reshape(values.shape[0], side, side, -1)
    if pooling == "mean":
        return values.mean((1, 2))
    if pooling == "max":
        return values.max((1, 2))
    cells = int(pooling.removeprefix("grid"))
    rows, columns = (_cell_means(side, cells) for side in values.shape[1:3])
    return jnp.einsum("ih,jw,nhwc->nijc", rows, columns, values).reshape(values.shape[0], -1)


def _cell_means(side: int, cells: int) -> Float32[np.ndarray, "cells side"]:
    """Returns the matrix that maps a column of `side` values to the means of `cells` cells."""
    i = np.arange(cells)[:, None]
    x = np.arange(side)
    # -(-a // b) is the ceiling of a / b.
    inside = (x >= i * side // cells) & (x < -(-(i + 1) * side // cells))
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)


def _check_finite(batch: dict[str, Any], features: Features) -> None:
    for name, values in features.items():
        bad = batch["mask"] & ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise UserError(
                f"endpoint {name!r} of example {batch['id'][np.argmax(bad)]!r} has values that are "
                "not finite; check the weights and, in bfloat16, try float32"
            )
