"""Rules that find the backbone in self-supervised and training checkpoints."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from tl.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Prefix:
    """Where one kind of checkpoint has its backbone.

    Attributes:
      keep: pattern of the prefix of the backbone's names; names of nested dictionaries are joined
        by `/`.
      drop: pattern of the start of names that are not the backbone's; it is tried first.
    """

    keep: str
    drop: str


# Sources: the training and loading code of facebookresearch/moco, moco-v3, dino, swav and
# barlowtwins, and of sthalles/SimCLR. Their files without a prefix (dino_resnet50_pretrain.pth,
# Barlow Twins' resnet50.pth) need no rule.
PREFIXES: dict[str, Prefix] = {
    "checkpoint": Prefix(r"(state_dict|model)/(module\.)?", r"(optimizer|scaler|state_dict_ema)/"),
    "moco": Prefix(
        r"state_dict/module\.encoder_q\.",
        r"optimizer/|state_dict/module\.(encoder_q\.fc\.|encoder_k\.|queue$|queue_ptr$)",
    ),
    "moco_v3": Prefix(
        r"state_dict/module\.base_encoder\.",
        r"(optimizer|scaler)/|"
        r"state_dict/module\.(base_encoder\.(fc|head)\.|momentum_encoder\.|predictor\.)",
    ),
    "dino": Prefix(
        r"teacher/(module\.)?(backbone\.)?",
        r"(student|optimizer|dino_loss|fp16_scaler)/|teacher/(module\.)?head\.",
    ),
    "swav": Prefix(
        r"(state_dict/)?module\.",
        r"(optimizer|amp)/|(state_dict/)?module\.(projection_head|prototypes)\.?",
    ),
    "barlow_twins": Prefix(
        r"model/module\.backbone\.", r"optimizer/|model/module\.(projector|bn)\."
    ),
    "simclr": Prefix(r"state_dict/backbone\.", r"optimizer/|state_dict/backbone\.fc\."),
}


def strip(tensors: Mapping[str, Any], rule: str) -> dict[str, Any]:
    """Returns the tensors of the backbone in a self-supervised or training checkpoint.

    Args:
      tensors: name to array, names of nested dictionaries joined by `/`.
      rule: a key of PREFIXES.

    Returns:
      Name without the prefix to array. Names that match neither pattern stay as they are, so that
      conversion reports them.

    Raises:
      UserError: no such rule, or no name matches it.
    """
    if rule not in PREFIXES:
        raise UserError(f"no prefix rule is called {rule!r}{nearest(rule, PREFIXES)}")
    prefix = PREFIXES[rule]
    kept = {k: v for k, v in tensors.items() if not re.match(prefix.drop, k)}
    if not any(re.match(prefix.keep, name) for name in kept):
        raise UserError(
            f"prefix rule {rule!r} expects names that match {prefix.keep!r}; the file has "
            + ", ".join(map(repr, sorted(tensors)[:3]))
        )
    stripped: dict[str, Any] = {}
    for name, value in kept.items():
        short = re.sub(f"^(?:{prefix.keep})", "", name)
        if short in stripped:
            raise UserError(f"prefix rule {rule!r} gives two tensors the name {short!r}")
        stripped[short] = value
    return stripped
