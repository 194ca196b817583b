"""The recipe of a training run: all its hyperparameters, typed and checked."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tl.data.augment import Augmentation
from tl.data.transforms import Overrides
from tl.devices import SHARDINGS
from tl.errors import UserError, nearest
from tl.models.backbone import Backbone
from tl.train.freezing import NORMS
from tl.train.loop import Cadence
from tl.train.losses import Loss
from tl.train.mixing import Mixing
from tl.train.optim import Optim
from tl.weights.spec import WeightChoice

STARTS = ("weights", "random")
HEADS = ("zero", "random", "probe", "keep")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides how a network is trained, beside its data.

    Attributes:
      weights: where the network comes from.
      overrides: changes to the preprocessing that belongs to the weights.
      seed: of the new head, of the order of examples, of augmentation, mixing and dropout.
      start: `weights`, or `random` for the same network untrained.
      head: `zero`, `random`, `probe` (a linear probe's solution) or `keep`.
      freeze: patterns of frozen leaves, see `tl.train.freezing`.
      unfreeze: 'PATTERN@STEP': leaves that match train from that step on.
      lora, lora_rank: see `tl.models.lora.added`; without patterns nothing is added.
      wise_ft: choose between the start and the end weights, see `tl.train.wise_ft`.
      norm: one of `tl.train.freezing.NORMS`.
      norm_momentum: share of old batch statistics kept in an update; `kornblith` for
        `hyperrule.kornblith_momentum`, None for the weights' own.
      cache_prefix: run the frozen stages once, and train from their stored outputs.
      dtype: of compute, `float32` or `bfloat16`; parameters and statistics are always float32.
      sharding: how the state lies on the devices, see `tl.devices.DataParallel`.
      remat: compute blocks again in the backward pass, see `tl.models.layers.rematerialised`.
      batch_size: examples of an update, over all devices.
      accumulate: number of parts that a batch is computed in, one after the other.
      dropout: share of the head's inputs to drop, in [0, 1).
      drop_path: rate of the last block's stochastic depth, in [0, 1), see `tl.models.layers`.
      label_smoothing: share of a target to spread over all classes, in [0, 1).
      ema_decay: of the averaged parameters, which are then evaluated, in [0, 1); 0 for no average.
      cadence: how long the run is, and when it evaluates, saves and logs.
      max_to_keep: number of latest checkpoints to keep, beside the best.
      loss: what training minimises, see `tl.train.losses`.
      optim, augmentation, mixing: see their classes.
      rule: name of the rule that filled fields which the config left open; '' for none.
      ruled: dotted name of each field that the rule filled, to its value.

    Raises:
      UserError: a value that cannot be used, with its field.
    """

    weights: WeightChoice
    overrides: Overrides
    seed: int
    start: str
    head: str
    freeze: tuple[str, ...]
    unfreeze: tuple[str, ...]
    lora: tuple[str, ...]
    lora_rank: int
    wise_ft: bool
    norm: str
    norm_momentum: float | str | None
    cache_prefix: bool
    dtype: str
    sharding: str
    remat: bool
    batch_size: int
    accumulate: int
    dropout: float
    drop_path: float
    label_smoothing: float
    ema_decay: float
    cadence: Cadence
    max_to_keep: int
    loss: Loss
    optim: Optim
    augmentation: Augmentation
    mixing: Mixing
    rule: str = ""
    ruled: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def of(self, backbone: Backbone) -> "Recipe":
        """Returns the same with what is frozen spelt out for a network, see `named_modules`."""
        default = ("*", "!head") if self.lora else ()
        return dataclasses.replace(
            self,
            freeze=backbone.named_modules(self.freeze or default),
            unfreeze=backbone.named_modules(self.unfreeze),
            lora=backbone.named_modules(self.lora),
        )

    def __post_init__(self) -> None:
        names = {"start": STARTS, "head": HEADS, "norm": NORMS, "dtype": DTYPES}
        names["sharding"] = SHARDINGS
        for field, known in names.items():
            if (name := getattr(self, field)) not in known:
                raise UserError(
                    f"there is no {name!r}{nearest(name, known)}", field=f"train.{field}"
                )
        for field in ("batch_size", "accumulate", "max_to_keep", "lora_rank"):
            if getattr(self, field) < 1:
                raise UserError(
                    f"expected at least 1, got {getattr(self, field)}", field=f"train.{field}"
                )
        for field in ("dropout", "drop_path", "label_smoothing", "ema_decay"):
            if not 0 <= (value := getattr(self, field)) < 1:  # which NaN fails
                raise UserError(f"expected a share in [0, 1), got {value}", field=f"train.{field}")
        if self.wise_ft and self.start == "random":
            raise UserError(
                "it goes back toward the weights that training starts from; with "
                "`train.start=random` there are none",
                field="train.wise_ft",
            )
        momentum = self.norm_momentum
        if momentum not in (None, "kornblith") and (
            isinstance(momentum, str) or not 0 <= momentum < 1
        ):
            raise UserError(
                f"expected a number in [0, 1), 'kornblith', or '' for the weights' own, got "
                f"{momentum!r}",
                field="train.norm_momentum",
            )
        if self.cache_prefix and self.drop_path:
            raise UserError(
                "it runs the frozen stages once for each image, and `train.drop_path` leaves out "
                "other blocks each time; switch off one of the two",
                field="train.cache_prefix",
            )
        if self.cache_prefix and (self.augmentation.active or self.mixing.active):
            raise UserError(
                "it runs the frozen stages once for each image, and so `augment` must change "
                "none; switch off one of the two",
                field="train.cache_prefix",
            )
