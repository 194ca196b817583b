"""Loads or initialises the network that training starts from, with its head."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float32

from tl.errors import UserError
from tl.models import lora
from tl.models.backbone import Network
from tl.train.hyperrule import kornblith_momentum
from tl.train.recipe import Recipe
from tl.weights.load import Pretrained, load


def initial_network(recipe: Recipe, classes: Sequence[str]) -> Pretrained:
    """Returns the network that training starts from.

    Its head is zero if the recipe's head is `probe`: the caller fits it (`Pretrained.with_head`).

    Args:
      recipe: of the run.
      classes: names, in the order of the labels.

    Raises:
      UserError: the weights cannot be loaded, or the head to keep has other classes.
    """
    keep = recipe.head == "keep"
    loaded = load(
        recipe.weights.name,
        **recipe.weights.reading,
        num_classes=None if keep else len(classes),
        drop_head=not keep,
        dtype=jnp.dtype(recipe.dtype),
    )
    if keep:
        _check_classes(loaded, classes)
    spec = dataclasses.replace(
        loaded.spec,
        preprocessing=recipe.overrides.of(loaded.spec.preprocessing),
        classes=tuple(classes),
        link=recipe.loss.link,
    )
    loaded.backbone.check_size(spec.preprocessing.size, loaded.spec.preprocessing.size)
    arguments = {**_norm_arguments(recipe, loaded), **_drop_path(recipe, loaded)}
    model = loaded.model.clone(dropout=recipe.dropout, **arguments)
    started = dataclasses.replace(loaded, spec=spec, model=model)
    if recipe.start == "random":
        variables = jax.device_get(_initial_variables(model, recipe.seed, spec.preprocessing.size))
        if recipe.head == "zero":
            variables["params"]["head"] = loaded.variables["params"]["head"]
        started = dataclasses.replace(started, variables=variables)
    elif recipe.head == "random":
        started = started.with_head(_initial_head(loaded.variables["params"]["head"], recipe.seed))
    return started


def with_lora(network: Pretrained, recipe: Recipe) -> Pretrained:
    """Returns the network with the matrices of low-rank adaptation, if the recipe has it.

    Raises:
      UserError: see `tl.models.lora.added`.
    """
    if not recipe.lora:
        return network
    params = lora.added(network.variables["params"], recipe.lora, recipe.lora_rank, recipe.seed)
    return dataclasses.replace(network, variables={**network.variables, "params": params})


def _check_classes(loaded: Pretrained, classes: Sequence[str]) -> None:
    known = loaded.spec.classes
    if loaded.spec.num_classes != len(classes) or (known and known != tuple(classes)):
        named = f" ({', '.join(known[:5])}, ...)" if known else ""
        raise UserError(
            f"'keep' expected a head for the {len(classes)} classes of this data "
            f"({', '.join(classes[:5])}, ...), {loaded.spec.name} has {loaded.spec.num_classes}"
            f"{named}; start with `train.head=zero`",
            field="train.head",
        )


def _drop_path(recipe: Recipe, loaded: Pretrained) -> dict[str, float]:
    """Returns the module's argument for stochastic depth; empty if there is none."""
    if not recipe.drop_path:
        return {}
    if not hasattr(loaded.model, "drop_path"):
        raise UserError(
            f"{loaded.backbone.name} has no stochastic depth, vision transformers and ConvNeXt "
            f"have it; expected 0, got {recipe.drop_path}",
            field="train.drop_path",
        )
    return {"drop_path": recipe.drop_path}


def _norm_arguments(recipe: Recipe, loaded: Pretrained) -> dict[str, float]:
    """Returns the module's arguments for batch statistics; empty if the network has none."""
    momentum = recipe.norm_momentum
    if isinstance(momentum, float) and not loaded.backbone.batch_stats:
        raise UserError(
            f"{loaded.spec.name} has no batch statistics; leave it empty",
            field="train.norm_momentum",
        )
    if momentum is None or not loaded.backbone.batch_stats:
        return {}
    if isinstance(momentum, str):
        momentum = kornblith_momentum(recipe.cadence.steps_per_epoch)
    return {"norm_momentum": momentum}


def _initial_variables(model: Network, seed: int, size: int) -> dict[str, Any]:
    variables = jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, size, size, 3)))
    return {"batch_stats": {}} | dict(variables)


def _initial_head(head: Mapping[str, Any], seed: int) -> dict[str, Float32[np.ndarray, "..."]]:
    """Returns Flax's default for a dense layer: LeCun normal kernel, zero bias."""
    initializer = nn.initializers.lecun_normal()
    kernel = initializer(jax.random.key(seed), np.shape(head["kernel"]), jnp.float32)
    return {"kernel": np.asarray(kernel), "bias": np.zeros(np.shape(head["bias"]), np.float32)}
