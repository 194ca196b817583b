"""Transfer learning with ImageNet networks in JAX: features, linear probes, fine-tuning.

    import tl

    model = tl.load("runs/pets")            # a run, a weight file or a name such as "resnet50.tv2"
    predicted = model.predict(["a.jpg"])    # paths, Pillow images or uint8 arrays
    features = model.features("photographs", endpoints=("stage3", "pooled"))
    probe = tl.fit_probe(features["pooled"], labels)
    store = tl.open_features("features/digits_train-0123456789abcdef")

`import tl` imports nothing else: each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tl.features.store import open_features
    from tl.inference.model import Model, Predicted, load
    from tl.inference.probe import Probe, fit_probe

__version__ = "0.1.0"

_HOMES = {
    "Model": "tl.inference.model",
    "Predicted": "tl.inference.model",
    "Probe": "tl.inference.probe",
    "fit_probe": "tl.inference.probe",
    "load": "tl.inference.model",
    "open_features": "tl.features.store",
}

__all__ = ["Model", "Predicted", "Probe", "__version__", "fit_probe", "load", "open_features"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
