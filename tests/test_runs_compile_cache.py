"""Programs are kept and found again; whatever is wrong with their folder, the run goes on."""

import collections
import logging
import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache as of_jax

from tl.runs import compile_cache

ROOT = Path(__file__).parents[1]
X = np.linspace(-1, 1, 7, dtype=np.float32)
FLAGS = ("jax_compilation_cache_dir", "jax_enable_compilation_cache", *compile_cache.SETTINGS)
HITS, MISSES = "cache_hits", "cache_misses"
WRITTEN, FOUND = {MISSES: 1}, {HITS: 1}
EVENTS = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: EVENTS.update([name.split("/")[-1]]))


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """JAX as a new process finds it; afterwards as the other tests do."""
    before = {name: getattr(jax.config, name) for name in FLAGS}
    # Read from the environment, so that `enable` leaves it: every program counts.
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_MAX_SIZE", raising=False)  # of conftest.py
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_compilation_cache_dir", None)
    of_jax.reset_cache()
    with warnings.catch_warnings():
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    of_jax.reset_cache()


def compute(root):
    """Returns the result, as of a new process, and how often the cache was hit and missed."""
    jax.config.update("jax_compilation_cache_dir", None)
    of_jax.reset_cache()
    compile_cache.enable(root)
    EVENTS.clear()
    result = jax.jit(lambda x: jnp.tanh(x) * jnp.cumsum(x))(X)  # another function, the same program
    return np.asarray(result), {k: n for k, n in EVENTS.items() if k in (HITS, MISSES)}


def entries(root):
    return sorted(compile_cache.folder(root).glob("*-cache"))


def test_a_program_is_compiled_once(tmp_path):
    first, events = compute(tmp_path)
    assert events == WRITTEN
    second, events = compute(tmp_path)
    assert events == FOUND
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, np.tanh(X) * np.cumsum(X), rtol=1e-5, atol=1e-6)
    assert compile_cache.folder(tmp_path).stat().st_mode & 0o777 == 0o700


def test_its_settings_are_ours_but_for_those_of_the_user(tmp_path):
    compile_cache.enable(tmp_path)
    assert jax.config.jax_compilation_cache_dir == str(compile_cache.folder(tmp_path))
    assert jax.config.jax_compilation_cache_max_size == 1 << 30
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0  # see `fresh`


@pytest.mark.parametrize("chosen", ["elsewhere", ""])
def test_the_users_folder_is_left_alone(tmp_path, chosen):
    jax.config.update("jax_compilation_cache_dir", chosen)
    size = jax.config.jax_compilation_cache_max_size
    compile_cache.enable(tmp_path)
    assert jax.config.jax_compilation_cache_dir == chosen
    assert jax.config.jax_compilation_cache_max_size == size
    assert not list(tmp_path.iterdir())


def test_switched_off_nothing_is_written(tmp_path):
    jax.config.update("jax_enable_compilation_cache", False)
    compile_cache.enable(tmp_path)
    assert jax.config.jax_compilation_cache_dir is None
    assert not list(tmp_path.iterdir())


def test_users_and_processors_have_folders_of_their_own(tmp_path, monkeypatch):
    folders = {compile_cache.folder(tmp_path)}
    assert folders == {compile_cache.folder(tmp_path)}
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    folders.add(compile_cache.folder(tmp_path))
    monkeypatch.setattr(compile_cache, "_processor", lambda: "another")
    folders.add(compile_cache.folder(tmp_path))
    assert len(folders) == 3


def test_the_processor_is_known_by_its_features():
    known = compile_cache._processor()
    assert known.split("\n")[0]
    if Path("/proc/cpuinfo").exists():
        assert "flags" in known or "Features" in known
    assert "MHz" not in known  # which changes from moment to moment


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, caplog):
    root = tmp_path / "file"
    root.touch()
    with caplog.at_level(logging.WARNING, "tl.runs.compile_cache"):
        compile_cache.enable(root)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"compiled programs are not kept, for {compile_cache.folder(root)}")
    assert "(Not a directory)" in message
    assert "JAX_ENABLE_COMPILATION_CACHE=0" in message
    assert jax.config.jax_compilation_cache_dir is None
    result, events = compute(root)
    assert events == {}
    assert np.isfinite(result).all()


def test_a_damaged_program_is_compiled_again_in_silence(tmp_path, recwarn):
    first, _ = compute(tmp_path)
    (entry,) = entries(tmp_path)
    entry.write_bytes(entry.read_bytes()[:-100])
    second, events = compute(tmp_path)
    assert HITS not in events
    np.testing.assert_array_equal(first, second)
    assert not [warning for warning in recwarn if "persistent" in str(warning.message)]


def test_what_a_kill_left_half_written_is_written_anew(tmp_path):
    compute(tmp_path)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    entry.with_name(entry.name.replace("-cache", "-atime")).unlink()  # is written last
    assert compute(tmp_path)[1] == WRITTEN
    assert compute(tmp_path)[1] == FOUND


def test_a_full_disk_costs_a_compilation(tmp_path, recwarn):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # bytes a file may have
    try:
        result, _ = compute(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert np.isfinite(result).all()
    assert [entry.stat().st_size for entry in entries(tmp_path)] == [100]
    assert not [warning for warning in recwarn if "persistent" in str(warning.message)]
    assert compute(tmp_path)[1] == WRITTEN  # with room again
    assert compute(tmp_path)[1] == FOUND


def test_the_least_recently_used_goes_first(tmp_path, monkeypatch):
    monkeypatch.setitem(compile_cache.SETTINGS, "jax_compilation_cache_max_size", 6000)
    compile_cache.enable(tmp_path)
    for factor in range(5):
        jax.jit(lambda x, factor=factor: jnp.tanh(x) * factor)(X).block_until_ready()
    left = entries(tmp_path)
    assert 1 <= len(left) < 5
    assert sum(entry.stat().st_size for entry in left) <= 6000


COMMAND = """
import sys
import jax
from tl.runs import cli

cli.define_run_flags()

def main(_):
    cli.start_run()
    print(jax.jit(lambda x: x + 1)(1))
    print(jax.config.jax_compilation_cache_dir)

cli.run(main)
"""


def test_commands_keep_their_programs_two_at_once_too(tmp_path):
    environment = {**os.environ, "TL_CACHE": str(tmp_path / "cache")}
    del environment["JAX_COMPILATION_CACHE_DIR"]  # of conftest.py
    arguments = [sys.executable, "-c", COMMAND, "--config=configs/quickstart.py"]
    commands = [
        subprocess.Popen(
            [*arguments, f"--workdir={tmp_path / name}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    for command in commands:
        out, err = command.communicate(timeout=60)
        assert err == ""
        assert out.split() == ["2", str(compile_cache.folder(tmp_path / "cache"))]
    assert entries(tmp_path / "cache")
