"""Finds runs of a study that read the same features, so that these are extracted once."""

import collections
import json
from collections.abc import Mapping, Sequence
from typing import Any

_NETWORK = ("weights", "weights_like", "weights_prefix", "weights_average")
_TRAINING = ("start", "head", "freeze", "unfreeze", "norm", "dtype", "cache_prefix")
# The same features serve whatever these are.
_ANY = (
    "data.examples_per_class",
    "data.download",
    "extract.endpoints",
    "extract.shared_endpoints",
)


def key(kind: str, fields: Mapping[str, Any]) -> str:
    """Returns a text that is the same for runs that read the same features.

    Endpoints of probes do not count, for runs can share them. The text is empty for a run that
    reads no features.

    Args:
      kind: `probe` or `finetune`.
      fields: dotted name to value, of the run's config.
    """
    if kind == "finetune" and fields["train.head"] != "probe" and not fields["train.cache_prefix"]:
        return ""
    facts = {
        name: value
        for name, value in fields.items()
        if name in _NETWORK
        or (name.split(".")[0] in ("preprocess", "data", "extract") and name not in _ANY)
    }
    if kind == "finetune":
        facts |= {f"train.{name}": fields[f"train.{name}"] for name in _TRAINING}
        facts["seeds"] = fields["seeds"] if fields["train.start"] == "random" else ()
    return json.dumps({"kind": kind, **facts}, sort_keys=True, default=str)


def shared_endpoints(probes: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Returns, for each probe, the endpoints of all probes that read the same features.

    Args:
      probes: dotted name to value, of each probe's config.
    """
    endpoints: dict[str, dict[str, None]] = collections.defaultdict(dict)
    for fields in probes:
        for endpoint in (*fields["extract.endpoints"], *fields["endpoints"]):
            endpoints[key("probe", fields)].update(dict.fromkeys(endpoint.split("+")))
    return [tuple(endpoints[key("probe", fields)]) for fields in probes]
