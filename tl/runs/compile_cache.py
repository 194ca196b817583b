"""JAX's persistent compilation cache: a machine compiles a program once for all commands.

The folder is `compiled-<digest>` below the cache root. The digest is of the user, since whoever can
write there can run code, and of the processor, since a program for another one may crash on this
one; JAX's own keys tell versions, devices and options apart. JAX_COMPILATION_CACHE_DIR names
another folder, which is then JAX's own affair; JAX_ENABLE_COMPILATION_CACHE=0 switches it all off.
"""

import hashlib
import logging
import os
import platform
import warnings
from pathlib import Path

import filelock
import jax

SETTINGS = {
    # Of a run's programs some take 0.8 to 30 s to compile and a hundred below 0.05 s. These would
    # only fill the folder with files, all of which JAX goes through whenever it adds one.
    "jax_persistent_cache_min_compile_time_secs": 0.1,
    # Beyond it the least recently used goes first. A training step takes 1 to 3 MB on a CPU.
    "jax_compilation_cache_max_size": 1 << 30,
}

_CPU_FIELDS = ("model name", "flags", "CPU implementer", "CPU part", "Features")  # x86, then Arm
_LOCK_SECONDS = 10


def enable(root: Path) -> None:
    """Keeps compiled programs below `root`, unless the user's settings of JAX say otherwise.

    Must come before the first program is compiled. A folder that cannot be written is one line of
    the log. What goes wrong later (a damaged file, a full disk) costs a compilation, nothing else.

    Args:
      root: see `tl.weights.fetch.cache_root`.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    if not jax.config.values["jax_enable_compilation_cache"]:
        return
    path = folder(root)
    try:
        _prepare(path)
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        logging.getLogger(__name__).warning(
            "compiled programs are not kept, for %s cannot be written (%s); another cache is "
            "$TL_CACHE=FOLDER, none is JAX_ENABLE_COMPILATION_CACHE=0",
            path,
            getattr(error, "strerror", None) or error,
        )
        return
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    for name, value in SETTINGS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    jax.config.update("jax_compilation_cache_dir", str(path))


def folder(root: Path) -> Path:
    """Returns the folder of this user's programs for this processor, there or not."""
    identity = f"{os.getuid()}\n{_processor()}"
    return root / f"compiled-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _processor() -> str:
    """Returns what decides which instructions a program may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    known = [line for line in lines if line.split(":")[0].strip() in _CPU_FIELDS]
    return "\n".join([platform.machine(), platform.processor(), *known])


def _prepare(path: Path) -> None:
    """Makes the folder and removes what a process was writing when it was killed.

    JAX writes an entry, then its time of use. Without the latter JAX could neither replace the
    entry nor, since it looks at all of them, add another.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with filelock.FileLock(path / ".lockfile", timeout=_LOCK_SECONDS):  # JAX's own lock
        for entry in path.glob("*-cache"):
            if not entry.with_name(entry.name.removesuffix("-cache") + "-atime").exists():
                entry.unlink()
