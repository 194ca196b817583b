"""Downloads a file: resumes where a transfer stopped, checks the file, puts it in place whole."""

import functools
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import filelock
import requests
from tqdm import tqdm

from tl.errors import UserError
from tl.files import progress_options

CONNECT_SECONDS = 4  # for each address of a host
ANSWER_SECONDS = 8  # for the first answer, host name looked up; an offline machine fails by then
READ_SECONDS = 30
ATTEMPTS = 4  # each goes on where the one before was cut off
_CHUNK = 1 << 16  # bytes; a cut loses at most one chunk

T = TypeVar("T")


def download(url: str, path: Path, check: Callable[[Path], object]) -> None:
    """Downloads a file, checks it and puts it in place, whole or not at all.

    A transfer that was cut off leaves `<path>.part`, and the next one goes on from there. If
    several processes want the same file, one downloads it and the others wait.

    Args:
      url: the address.
      path: where the file goes.
      check: raises UserError if the content of the file it is given is wrong.

    Raises:
      UserError: from `check`; nothing is kept.
      requests.RequestException: no connection, an error status, or cut off ATTEMPTS times.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{path}.lock"):
        if path.is_file():
            return
        part = path.with_name(path.name + ".part")
        for attempt in range(ATTEMPTS):
            have = part.stat().st_size if part.is_file() else 0
            response = with_timeout(ANSWER_SECONDS, functools.partial(_request, url, have))
            try:
                _write(response, part, have)
                break
            except (requests.exceptions.ChunkedEncodingError, requests.ConnectionError):
                if attempt == ATTEMPTS - 1:
                    raise
        try:
            check(part)
        except UserError:
            part.unlink()
            raise
        os.replace(part, path)


def _request(url: str, start: int) -> requests.Response:
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))


def _write(response: requests.Response, part: Path, have: int) -> None:
    with response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is left to send; the checksum decides
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(
                total=length and start + int(length),
                initial=start,
                unit="B",
                unit_scale=True,
                desc=part.stem,
                **progress_options(),
            ) as bar,
        ):
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def with_timeout(seconds: float, function: Callable[[], T]) -> T:
    """Returns `function()`, or raises requests.ConnectTimeout if it takes longer than `seconds`.

    The timeout of `requests` does not cover the look-up of a host's name, which takes much longer
    if the resolver does not answer.
    """
    answers: queue.Queue[tuple[bool, Any]] = queue.Queue()

    def run() -> None:
        try:
            answers.put((True, function()))
        except Exception as error:
            answers.put((False, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        done, value = answers.get(timeout=seconds)
    except queue.Empty:
        raise requests.ConnectTimeout(f"no answer within {seconds} s") from None
    if not done:
        raise value
    return value
