"""Paths of this machine and of object stores, `gs://bucket/name` and `s3://bucket/name`.

fsspec reads and writes object stores. It finds the user's credentials as Google's and Amazon's own
tools do; none pass through here. `etils.epath` has such paths too. But they are no `pathlib.Path`,
which all functions take here, and to them a folder's name such as `lr[1]` is a pattern.
"""

import contextlib
import fnmatch
import glob
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from tl.errors import UserError

ADVICE = (
    "check the address, the network and that this machine has credentials for it, as for "
    "`aws s3 ls` or `gcloud storage ls`"
)
# Scheme of an object store to the package that reads and writes it, and our extra that brings it.
_PACKAGES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
_LOCAL: type[Path] = type(Path())


class RemotePath(_LOCAL):  # type: ignore[misc, valid-type]
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

    def resolve(self, strict: bool = False) -> "RemotePath":
        """Returns the path itself."""
        return self

    def absolute(self) -> "RemotePath":
        """Returns the path itself."""
        return self

    def expanduser(self) -> "RemotePath":
        """Returns the path itself."""
        return self

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Does nothing."""

    def rmdir(self) -> None:
        """Does nothing."""

    def iterdir(self) -> Iterator["RemotePath"]:
        """Yields what is in the folder."""
        for name in file_system(self).ls(str(self), detail=False):
            yield self / name.rstrip("/").rpartition("/")[2]

    def glob(self, pattern: str, **_: Any) -> Iterator["RemotePath"]:
        """Yields what a pattern fits, such as '*.png'; of patterns with '/', only files.

        fsspec's own would take what is special in the folder's name for a pattern too.
        """
        first, separator, rest = pattern.partition("/")
        if not glob.has_magic(first):
            if separator:
                yield from (self / first).glob(rest)
            elif (self / first).exists():
                yield self / first
        elif not rest:
            with contextlib.suppress(FileNotFoundError):
                yield from (p for p in self.iterdir() if fnmatch.fnmatchcase(p.name, first))
        else:
            wanted = pattern.split("/")
            for name in files_below(self):
                parts = name.split("/")
                if len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)):
                    yield self / name

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

    def _not_there(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(f"object stores have no such operation: {self}")

    stat = lstat = rename = replace = touch = rglob = symlink_to = chmod = _not_there

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file."""
        try:
            file_system(self).rm_file(str(self))
        except FileNotFoundError:
            if not missing_ok:
                raise


def as_path(name: str | os.PathLike[str]) -> Path:
    """Returns the path that a user means.

    One of this machine has its `~` expanded; one of an object store is a `RemotePath`.

    >>> as_path("runs/a")
    PosixPath('runs/a')

    Args:
      name: of a file or a folder.

    Raises:
      UserError: another kind of address, or the package for this one is not installed.
    """
    text = os.fspath(name)
    scheme, separator, rest = text.partition(":/")
    if not separator or (not rest.startswith("/") and scheme not in _PACKAGES):
        return Path(os.path.expanduser(text))
    if scheme not in _PACKAGES:
        raise UserError(f"expected a path of this machine, gs:// or s3://, got {text}")
    if not re.match(r"/[^/]", rest):
        raise UserError(f"expected {scheme}://BUCKET/NAME, got {text}")
    package, extra = _PACKAGES[scheme]
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{text} needs a package that is not here: pip install '.[{extra}]'")
    return RemotePath(text)


def as_local(name: str | os.PathLike[str], what: str) -> Path:
    """Returns a path of this machine, with `~` expanded.

    Args:
      name: of a file or a folder.
      what: it is, for the error.

    Raises:
      UserError: it is the address of something elsewhere.
    """
    path = as_path(name)
    if is_remote(path):
        raise UserError(f"{what} has to be on this machine, not at {path}")
    return path


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is of an object store."""
    scheme, separator, _ = os.fspath(path).partition("://")
    return bool(separator) and scheme in _PACKAGES


def file_system(path: Path) -> Any:
    """Returns the `fsspec` file system of a path of an object store; it takes the path as text."""
    import fsspec

    scheme = os.fspath(path).partition("://")[0]
    # What another process has written must be seen, also where this one has looked before.
    fsspec.config.conf.setdefault(scheme, {}).setdefault("use_listings_cache", False)
    return fsspec.filesystem(scheme)


def digest(path: Path, purpose: str = "") -> str:
    """Returns what tells a path of an object store from all others, on any server, for a name."""
    servers = [os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")]
    return hashlib.sha256("\0".join([str(path), purpose, *servers]).encode()).hexdigest()[:16]


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
        return found | {"aws_credentials": {"type": "environment"}}
    profile = os.environ.get("AWS_PROFILE", "default")  # which it does not find by itself
    return found | {"aws_credentials": {"type": "default", "profile": profile}}


def create(path: Path, content: bytes) -> bool:
    """Writes a file of an object store that is not there; of several processes that try, one does.

    Args:
      path: of the file.
      content: that no other process writes.

    Returns:
      Whether this one did.

    Raises:
      OSError: the object store does not answer.
    """
    try:
        file_system(path).pipe_file(str(path), content, mode="create")
        return True
    except OSError as error:
        answer = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {})
        refused = answer.get("HTTPStatusCode") in (409, 412)  # not all servers say why
        if not refused and not isinstance(error, FileExistsError):
            raise
        return path.read_bytes() == content  # an answer may be lost, and the request sent again


def files_below(path: Path) -> dict[str, dict[str, Any]]:
    """Returns the names of all files in a folder of an object store, '' for a file itself.

    Returns:
      Name to what `fsspec` tells of the file; empty where there is none.
    """
    system = file_system(path)
    root = str(path).partition("://")[2]
    found = system.find(str(path), detail=True)
    return {
        full.removeprefix(root).removeprefix("/"): info
        for full, info in found.items()
        if not full.endswith("/")  # some tools mark a folder by an empty object
    }


def remove_tree(path: Path) -> None:
    """Removes a folder of an object store with all that is in it, where there is one."""
    for name in files_below(path):
        (path / name).unlink(missing_ok=True)


def remote_error(error: BaseException) -> str:
    """Returns what to say of an error of an object store; '' of any other.

    The packages' own errors are of many kinds. Their texts hold no credentials.
    """
    kinds = ("botocore.", "aiobotocore.", "gcsfs.", "google.auth.", "aiohttp.")
    found: BaseException | None = error
    while found and not f"{type(found).__module__}.".startswith(kinds):
        found = found.__cause__
    if not found and not str(error).startswith("Forbidden"):  # so, without a cause, gcsfs
        return ""
    text = (str(error).splitlines() or [""])[0] or type(error).__name__
    return f"the object store does not answer as it should ({text}); {ADVICE}"
