"""Finds a TFDS set on disk, or downloads and prepares it; never hangs where there is no network."""

import difflib
import os
import queue
import threading
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import requests
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import constants, naming, read_only_builder

from tl.errors import UserError, nearest

_PROBE_SECONDS = 5.0


def command(name: str, data_dir: str | os.PathLike) -> str:
    """Returns the shell command that downloads and prepares a set (TFDS's own needs TensorFlow)."""
    return (
        'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{data_dir}')"
        ".download_and_prepare(file_format='array_record')\""
    )


def open_builder(name: str, data_dir: str, *, download: bool) -> tfds.core.DatasetBuilder:
    """Returns the builder of a prepared data set, which it prepares if it may.

    Args:
      name: as TFDS knows it: 'cifar10', 'cifar10:3.0.2', 'imagenet_resized/32x32'.
      data_dir: TFDS's directory; '' for TFDS's default (the environment's TFDS_DATA_DIR).
      download: prepare the set where it is missing.

    Raises:
      UserError: the set is not there and may not, or cannot, be prepared.
    """
    root = epath.Path(data_dir or constants.DATA_DIR).expanduser()
    try:
        namespace = naming.parse_builder_name_kwargs(name)[0].namespace
    except ValueError as error:
        raise UserError(f"{name!r} cannot name a data set: {error}", field="data.name") from error
    if namespace:
        text = f"{name!r} is a community data set, which is not supported"
        raise UserError(text, field="data.name")
    try:
        # From its files alone: this runs no data set's code and touches no network.
        return read_only_builder.builder_from_files(name, data_dir=root)
    except tfds.core.DatasetNotFoundError:
        builder = _builder_from_code(name, root)
    if not download:
        raise UserError(_missing(name, root, "`data.download` is off"))
    _prepare(builder, name, root)
    return read_only_builder.builder_from_files(name, data_dir=root)


def prepared(root: epath.Path) -> list[str]:
    """Returns the sets in a TFDS directory, such as 'cifar10/3.0.2', sorted."""
    found = (
        path.parent for depth in ("*/*", "*/*/*") for path in root.glob(depth + "/features.json")
    )
    return sorted(path.relative_to(root).as_posix() for path in found)


def _missing(name: str, root: epath.Path, reason: str) -> str:
    there = ", ".join(prepared(root)) or ("nothing" if root.is_dir() else "no such directory")
    return (
        f"the TFDS set {name!r} is not prepared in {root} ({there}), and {reason}.\n"
        f"Prepare it where there is a network:\n  {command(name, root)}\n"
        "or point to a directory that holds it: `data.data_dir=DIR`"
    )


def _builder_from_code(name: str, root: epath.Path) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(name, data_dir=root, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        ours = ["digits", "folder", *prepared(root)]
        known = ours + tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(name, known) or ours  # TFDS's whole list fills a screen
        text = f"there is no data set {name!r}" + nearest(name, near)
        raise UserError(text, field="data.name") from error
    except Exception as error:  # the data set's own code runs here
        raise UserError(_missing(name, root, f"TFDS cannot prepare it: {error}")) from error


def _prepare(builder: tfds.core.DatasetBuilder, name: str, root: epath.Path) -> None:
    manual = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if manual and not (root / "downloads" / "manual").is_dir():
        reason = f"its files must be fetched by hand into {root}/downloads/manual:\n{manual}"
        raise UserError(_missing(name, root, reason))
    # TFDS itself retries for over three minutes before it gives up.
    urls = [] if manual else builder.url_infos or ["https://storage.googleapis.com"]
    hosts = {urlsplit(url).hostname: url for url in urls}
    if hosts and not any_answers(hosts.values()):
        raise UserError(_missing(name, root, f"no answer from {', '.join(sorted(hosts))}"))
    try:
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
    except ImportError as error:
        cause = str(error).splitlines()[-1]  # before it TFDS prints the example, pixel by pixel
        reason = (
            f"preparing it (never reading it) needs a package that is not here: {cause}; "
            "prepare it in an environment that has it ('pip install tensorflow')"
        )
        raise UserError(_missing(name, root, reason)) from error
    except Exception as error:  # the data set's own code runs here
        reason = f"preparing it failed with {type(error).__name__}: {str(error)[-500:]}"
        raise UserError(_missing(name, root, reason)) from error


def any_answers(urls: Iterable[str], seconds: float = _PROBE_SECONDS) -> bool:
    """Returns whether a server answers an HTTP request within `seconds`, for any of `urls`.

    Daemon threads, because resolving a name cannot be interrupted and takes a minute where the
    name server does not answer.
    """
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask(url: str) -> None:
        try:
            answers.put(requests.head(url, timeout=seconds).status_code < 500)
        except requests.RequestException:
            answers.put(False)

    urls = list(urls)
    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    end = time.monotonic() + seconds
    try:
        return any(answers.get(timeout=max(0.0, end - time.monotonic())) for _ in urls)
    except queue.Empty:
        return False
