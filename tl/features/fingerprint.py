"""Fingerprints: everything that determines a set of features, as JSON; equal ones share a store."""

import dataclasses
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

Fingerprint = dict[str, Any]

# Files of the package that compute features from images.
CODE = (
    "features/extract.py",
    "features/network.py",
    "data/resample*.py",
    "data/transforms*.py",
    "models/**/*.py",
)


def fingerprint(**fields: Any) -> Fingerprint:
    """Returns the fields as they read back from JSON.

    Args:
      **fields: nested JSON values, tuples and dataclasses. `data` must have `name` and `split`,
        which are part of the store's name.
    """
    return json.loads(json.dumps(fields, sort_keys=True, default=dataclasses.asdict))


def digest(fingerprint: Fingerprint) -> str:
    """Returns 16 hexadecimal digits that change with any field."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def code_version() -> str:
    """Returns the SHA-256 of the names and contents of the files in CODE."""
    package = Path(__file__).parents[1]
    sha256 = hashlib.sha256()
    for path in sorted(path for pattern in CODE for path in package.glob(pattern)):
        sha256.update(f"{path.relative_to(package).as_posix()}\n".encode())
        sha256.update(path.read_bytes())
    return sha256.hexdigest()


def images_name(fingerprint: Fingerprint) -> str:
    """Returns the data set and split as part of a file name, such as `cifar10_train`."""
    data = fingerprint["data"]
    return re.sub(r"[^\w.]+", "_", f"{data['name']} {data['split']}").strip("_")[-100:]


def directory_name(fingerprint: Fingerprint) -> str:
    """Returns the name of the feature store: `images_name` and `digest`."""
    return f"{images_name(fingerprint)}-{digest(fingerprint)}"
