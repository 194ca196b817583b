"""Writes tars in webdataset's form."""

import io
import itertools
import os
import tarfile

from PIL import Image

_seconds = itertools.count(10)  # a tar that is written again has another time


def png(value):
    """Returns a PNG of 3 x 2 pixels whose red is `value`."""
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def member(name, kind=tarfile.REGTYPE, **fields):
    """Returns the header of a member without a body."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def write(path, members, form=tarfile.PAX_FORMAT):
    """Writes a tar that is not just now; members are (name or header, body) or headers.

    Returns its path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for item in members:
            if isinstance(item, tarfile.TarInfo):
                tar.addfile(item)
                continue
            name, body = item
            body = body.encode() if isinstance(body, str) else body
            info = name if isinstance(name, tarfile.TarInfo) else member(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    os.utime(path, (next(_seconds),) * 2)
    return path


def samples(values, classes=2, prefix=""):
    """Yields the members of images `values`, whose labels are these modulo `classes`."""
    for value in values:
        yield f"{prefix}{value:04d}.cls", str(value % classes)
        yield f"{prefix}{value:04d}.png", png(value)
