"""What determines a set of features, as JSON; two runs share features where these are equal."""

import dataclasses
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

Fingerprint = dict[str, Any]

# Files that turn an image into numbers, within the package.
CODE = (
    "features/extract.py",
    "features/network.py",
    "data/resample*.py",
    "data/transforms*.py",
    "models/**/*.py",
)


def fingerprint(**fields: Any) -> Fingerprint:
    """Returns everything that determines a set of features, as JSON would give it back.

    Args:
      **fields: JSON values, tuples and dataclasses, nested at will; `data` must have `name` and
        `split`, by which stores of the same images are found.
    """
    return json.loads(json.dumps(fields, sort_keys=True, default=dataclasses.asdict))


def digest(fingerprint: Fingerprint) -> str:
    """Returns 16 hexadecimal digits that change with any field."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def code_version() -> str:
    """Returns the SHA-256 over the names and bytes of the files of CODE."""
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
    """Returns the name of its feature store, `images_name` and `digest`."""
    return f"{images_name(fingerprint)}-{digest(fingerprint)}"
