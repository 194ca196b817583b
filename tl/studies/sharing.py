"""Which runs read the same features, so that these are extracted once."""

import collections
import json
from collections.abc import Sequence

from ml_collections import ConfigDict

ENDPOINTS = ("endpoints", "shared_endpoints")  # of `extract`


def key(kind: str, config: ConfigDict) -> str:
    """Returns what determines the features that a run reads, endpoints of probes aside.

    Args:
      kind: `probe` or `finetune`.
      config: of the run.

    Returns:
      Equal texts for runs that share; empty for a run that reads no features.
    """
    train = config.train
    if kind == "finetune" and train.head != "probe" and not train.cache_prefix:
        return ""
    data = {k: v for k, v in config.data.items() if k not in ("examples_per_class", "download")}
    facts = {
        "kind": kind,
        **{name: config[name] for name in ("weights", "weights_like", "weights_prefix")},
        "preprocess": config.preprocess.to_dict(),
        "data": data,
        "extract": {k: v for k, v in config.extract.items() if k not in ENDPOINTS},
    }
    if kind == "finetune":
        names = ("start", "head", "freeze", "unfreeze", "norm", "dtype", "cache_prefix")
        facts["train"] = {name: train[name] for name in names}
        facts["seeds"] = config.seeds if train.start == "random" else ()
    return json.dumps(facts, sort_keys=True, default=str)


def share(probes: Sequence[ConfigDict]) -> None:
    """Has every probe store the endpoints of all that read the same features, in one pass.

    Args:
      probes: their configs; `extract.shared_endpoints` is set.
    """
    endpoints = collections.defaultdict(dict)
    for config in probes:
        for endpoint in (*config.extract.endpoints, *config.endpoints):
            endpoints[key("probe", config)].update(dict.fromkeys(endpoint.split("+")))
    for config in probes:
        config.extract.shared_endpoints = tuple(endpoints[key("probe", config)])
