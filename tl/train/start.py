"""Where training starts: public weights, a file, an earlier run or nothing; and with which head."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from tl.data import transforms
from tl.errors import UserError, nearest
from tl.features.extract import extract_parts
from tl.probes import protocol
from tl.probes.solvers import Logistic, Rows
from tl.runs import options
from tl.train.hyperrule import kornblith_momentum
from tl.weights.load import Pretrained, load

STARTS = ("weights", "random")
HEADS = ("zero", "random", "probe", "keep")


def network(config: ConfigDict, classes: Sequence[str], steps_per_epoch: float) -> Pretrained:
    """Returns the network to train with the weights it starts from, its head zero or kept.

    Args:
      config: see `configs/common.py`.
      classes: names, in the order of the labels.
      steps_per_epoch: for the momentum of batch statistics.

    Raises:
      UserError: weights that cannot be had, or a head to keep that is not of these classes.
    """
    for field, known in (("start", STARTS), ("head", HEADS)):
        if (name := config.train[field]) not in known:
            raise UserError(f"--config.train.{field}: there is no {name!r}{nearest(name, known)}")
    keep = config.train.head == "keep"
    loaded = load(
        config.weights,
        like=config.weights_like,
        prefix=config.weights_prefix,
        num_classes=None if keep else len(classes),
        drop_head=not keep,
        dtype=jnp.dtype(options.compute_dtype(config)),
    )
    if keep:
        _check_classes(loaded, classes)
    spec = dataclasses.replace(
        loaded.spec,
        preprocessing=transforms.with_overrides(loaded.spec.preprocessing, **config.preprocess),
        classes=tuple(classes),
    )
    model = loaded.model.clone(
        dropout=config.train.dropout,
        norm_momentum=_norm_momentum(
            config.train.norm_momentum, loaded.model.norm_momentum, steps_per_epoch
        ),
    )
    started = dataclasses.replace(loaded, spec=spec, model=model)
    if config.train.start == "random":
        variables = jax.device_get(_initial(model, options.seed(config)))
        if config.train.head == "zero":
            variables["params"]["head"] = loaded.variables["params"]["head"]
        started = dataclasses.replace(started, variables=variables)
    elif config.train.head == "random":
        head = _initial_head(loaded.variables["params"]["head"], options.seed(config))
        started = with_head(started, head)
    return started


def with_head(network: Pretrained, head: Mapping[str, Any]) -> Pretrained:
    """Returns the network with another head, `kernel` [D, C] and `bias` [C]."""
    params = {**network.variables["params"], "head": dict(head)}
    return dataclasses.replace(network, variables={**network.variables, "params": params})


def fit_head(
    config: ConfigDict,
    network: Pretrained,
    parts: Mapping[str, tuple[Any, np.ndarray]],
    log: Callable[[str], Any],
) -> dict[str, np.ndarray]:
    """Returns the linear probe's solution as a head (LP-FT; Kumar et al. 2022, arXiv:2202.10054).

    Logistic regression on the pooled features of train, its strength chosen on val; val is not
    fitted, for training chooses on it too. Before its first step the network then predicts what
    the probe does.

    Args:
      config: probe and extract say how.
      network: whose features.
      parts: `train` and `val` to (source, rows).
      log: takes a line of text.
    """
    extraction = dataclasses.replace(
        options.extraction(config),
        endpoints=("pooled",),
        pooling="mean",
        dtype=options.compute_dtype(config),
    )
    stores = extract_parts(
        network,
        {part: parts[part] for part in ("train", "val")},
        network.spec.preprocessing,
        extraction,
        options.feature_root(config),
        log=log,
    )
    rows = {}
    for part, store in stores.items():
        _, chosen = parts[part]
        chosen = chosen[store.labels()[chosen] >= 0]
        rows[part] = Rows(store.read("pooled", chosen), store.labels()[chosen])
    solver = next((s for s in options.solvers(config) if isinstance(s, Logistic)), Logistic())
    num_classes = network.spec.num_classes
    choice, _ = protocol.choose_setting("pooled", solver, rows["train"], rows["val"], num_classes)
    log(
        f"head: linear probe with l2 {choice.setting['l2']:.3g}, val top-1 "
        f"{100 * choice.val_top1:.2f} % of {len(rows['val'].labels)}"
    )
    return {"kernel": choice.fit.head.kernel, "bias": choice.fit.head.bias}


def _check_classes(loaded: Pretrained, classes: Sequence[str]) -> None:
    known = loaded.spec.classes
    if loaded.spec.num_classes != len(classes) or (known and known != tuple(classes)):
        named = f" ({', '.join(known[:5])}, ...)" if known else ""
        raise UserError(
            f"--config.train.head=keep expected a head for the {len(classes)} classes of this data "
            f"({', '.join(classes[:5])}, ...), {loaded.spec.name} has {loaded.spec.num_classes}"
            f"{named}; start with --config.train.head=zero"
        )


def _norm_momentum(text: str, own: float, steps_per_epoch: float) -> float:
    if not text:
        return own
    if text == "kornblith":
        return kornblith_momentum(steps_per_epoch)
    try:
        momentum = float(text)
    except ValueError:
        momentum = -1.0
    if not 0 <= momentum < 1:
        raise UserError(
            "expected --config.train.norm_momentum to be a number in [0, 1), 'kornblith', or '' "
            f"for the weights' own, got {text!r}"
        )
    return momentum


def _initial(model: nn.Module, seed: int) -> dict[str, Any]:
    images = jnp.zeros((1, 64, 64, 3))
    return jax.jit(model.init)(jax.random.key(seed), images)


def _initial_head(head: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Returns what Flax gives a dense layer by default: LeCun normal kernel, zero bias."""
    initializer = nn.initializers.lecun_normal()
    kernel = initializer(jax.random.key(seed), np.shape(head["kernel"]), jnp.float32)
    return {"kernel": np.asarray(kernel), "bias": np.zeros(np.shape(head["bias"]), np.float32)}
