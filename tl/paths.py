"""Paths of this machine and of object stores, `gs://bucket/name` and `s3://bucket/name`.

fsspec reads and writes the stores. It finds the user's credentials as Google's and Amazon's own
tools do; none pass through here.
"""

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tl.errors import UserError

# Scheme of an object store to the package that reads and writes it, and our extra that brings it.
_PACKAGES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
_LOCAL: type[Path] = type(Path())


class StorePath(_LOCAL):  # type: ignore[misc, valid-type]
    """A path of an object store, with those methods of `pathlib.Path` that make sense there.

    Folders exist there as far as something is in them, so making one does nothing.
    """

    def __str__(self) -> str:
        # As pathlib keeps it, the path begins with 's3:/'.
        return re.sub(r"^(\w+):/(?=[^/])", r"\1://", super().__str__())

    def __fspath__(self) -> str:
        return str(self)

    def exists(self, **_: Any) -> bool:
        """Returns whether there is a file, or something in a folder of this name."""
        return file_system(self).exists(str(self))

    def is_dir(self, **_: Any) -> bool:
        """Returns whether there is something in a folder of this name."""
        return file_system(self).isdir(str(self))

    def is_file(self, **_: Any) -> bool:
        """Returns whether there is a file of this name."""
        return file_system(self).isfile(str(self))

    def is_symlink(self) -> bool:
        """Returns False."""
        return False

    def resolve(self, strict: bool = False) -> "StorePath":
        """Returns the path itself."""
        return self

    def absolute(self) -> "StorePath":
        """Returns the path itself."""
        return self

    def expanduser(self) -> "StorePath":
        """Returns the path itself."""
        return self

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Does nothing."""

    def rmdir(self) -> None:
        """Does nothing."""

    def iterdir(self) -> Iterator["StorePath"]:
        """Yields what is in the folder."""
        for name in file_system(self).ls(str(self), detail=False):
            yield self / name.rstrip("/").rpartition("/")[2]

    def glob(self, pattern: str, **_: Any) -> Iterator["StorePath"]:
        """Yields what a pattern fits, such as '*/metrics'."""
        scheme = str(self).partition("://")[0]
        for name in file_system(self).glob(f"{self}/{pattern}"):
            yield type(self)(f"{scheme}://{name.rstrip('/')}")

    def open(self, mode: str = "r", *_: Any, **options: Any) -> Any:
        """Opens the file; one that is written is there when it is closed."""
        kept = {name: value for name, value in options.items() if name in ("encoding", "newline")}
        return file_system(self).open(str(self), mode, **kept)

    def read_bytes(self) -> bytes:
        """Returns what the file holds."""
        return file_system(self).cat_file(str(self))

    def read_text(self, encoding: str | None = None, *_: Any, **__: Any) -> str:
        """Returns what the file holds."""
        return self.read_bytes().decode(encoding or "utf-8")

    def write_bytes(self, data: Any) -> int:
        """Writes the file, whole or not at all."""
        file_system(self).pipe_file(str(self), bytes(data))
        return len(data)

    def write_text(self, data: str, encoding: str | None = None, *_: Any, **__: Any) -> int:
        """Writes the file, whole or not at all."""
        return self.write_bytes(data.encode(encoding or "utf-8"))

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file."""
        try:
            file_system(self).rm_file(str(self))
        except FileNotFoundError:
            if not missing_ok:
                raise


def as_path(name: str | os.PathLike[str]) -> Path:
    """Returns the path that a user means.

    One of this machine has its `~` expanded; one of an object store is a `StorePath`.

    >>> as_path("runs/a")
    PosixPath('runs/a')

    Args:
      name: of a file or a folder.

    Raises:
      UserError: another kind of address, or the package for this one is not installed.
    """
    text = os.fspath(name)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(os.path.expanduser(text))
    if scheme not in _PACKAGES:
        raise UserError(f"expected a path of this machine, gs:// or s3://, got {text}")
    if not rest.strip("/"):
        raise UserError(f"expected {scheme}://BUCKET/NAME, got {text}")
    package, extra = _PACKAGES[scheme]
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{text} needs a package that is not here: pip install 'tl[{extra}]'")
    return StorePath(text)


def as_local(name: str | os.PathLike[str], what: str) -> Path:
    """Returns a path of this machine, with `~` expanded.

    Args:
      name: of a file or a folder.
      what: it is, for the error.

    Raises:
      UserError: it is the address of something elsewhere.
    """
    if "://" in os.fspath(name):
        raise UserError(f"{what} has to be on this machine, not at {os.fspath(name)}")
    return as_path(name)


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is of an object store."""
    return os.fspath(path).partition("://")[0] in _PACKAGES


def file_system(path: Path) -> Any:
    """Returns the `fsspec` file system of a path of an object store; it takes the path as text."""
    import fsspec

    scheme = os.fspath(path).partition("://")[0]
    # What another process has written must be seen, also where this one has looked before.
    fsspec.config.conf.setdefault(scheme, {}).setdefault("use_listings_cache", False)
    return fsspec.filesystem(scheme)


def kvstore(path: str) -> dict[str, Any]:
    """Returns TensorStore's specification of the files below a path."""
    scheme, separator, rest = path.partition("://")
    if not separator:
        return {"driver": "file", "path": path}
    bucket, _, key = rest.partition("/")
    if scheme == "gs":
        return {"driver": "gcs", "bucket": bucket, "path": key}
    found: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": key}
    # What Amazon's own tools read from the environment and TensorStore does not.
    if address := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        found |= {"endpoint": address, "aws_region": region or "us-east-1"}
    if "AWS_ACCESS_KEY_ID" in os.environ:  # without this it complains of files that are not there
        found["aws_credentials"] = {"type": "environment"}
    return found


def create(path: Path, content: bytes) -> bool:
    """Writes a file of an object store that is not there; of several processes that try, one does.

    Returns:
      Whether this one did.
    """
    try:
        file_system(path).pipe_file(str(path), content, mode="create")
        return True
    except FileExistsError:
        return False


def remove_tree(path: Path) -> None:
    """Removes a folder of an object store with all that is in it, where there is one."""
    try:
        file_system(path).rm(str(path), recursive=True)
    except FileNotFoundError:
        return


def store_error(error: BaseException) -> str:
    """Returns what to say of an error of an object store; '' of any other.

    The packages' own errors are of many kinds. Their texts hold no credentials.
    """
    kinds = ("botocore.", "aiobotocore.", "gcsfs.", "google.auth.", "aiohttp.")
    found: BaseException | None = error
    while found and not f"{type(found).__module__}.".startswith(kinds):
        found = found.__cause__
    if not found:
        return ""
    text = (str(error).splitlines() or [""])[0] or type(error).__name__
    return (
        f"the object store does not answer as it should ({text}); check the address, the network "
        "and that this machine has credentials for it, as for `aws s3 ls` or `gcloud storage ls`"
    )
