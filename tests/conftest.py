"""Eight fake CPU devices for every test, programs kept, and types checked at run time.

With `-m gpu` the devices are those that JAX finds.
"""

import gc
import os
import re
import shutil
from importlib.metadata import version

import pytest
from packaging.version import Version

from tests import typechecker

# Arguments and results of functions must be what their annotations say, array shapes too.
CHECKED = ["tl.errors", "tl.devices", "tl.hosts", "tl.tree", "tl.fields", "tl.files"]
CHECKED += ["tl.paths"]
CHECKED += ["tl.results.metrics", "tl.storage", "tl.probes", "tl.data", "tl.report"]
CHECKED += [
    "tl.models",
    "tl.weights",
    "tl.features",
    "tl.train.losses",
    "tl.train.mixing",
    "tl.train.steps",
]
# Not `predictions`, which itself checks what a file holds.
CHECKED += [f"tl.results.{m}" for m in ("calibration", "compare", "confusion", "examples")]
CHECKED += [f"tl.results.{m}" for m in ("intervals", "projection")]
CHECKED += ["tl.advice", "tl.studies", "tl.runs.cost"]
typechecker.install(CHECKED)

collect_ignore = ["make_golden.py"]  # a script, which changes what may be imported after it


def pytest_configure(config):
    """Sets what JAX reads when it is first imported, which is later, by the tests."""
    os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
    if not hasattr(config, "workerinput"):  # workers have the environment of the process they serve
        _keep_programs(config)
    if _on_accelerator(config):
        # Workers of `-n` and the processes that tests start share the card's memory.
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        return
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Workers of `-n` share the cores; with threads of their own they would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Compiling takes longer than these small programs run. 0 tests programs as users have them.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    flags = [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8"]
    if Version(version("jaxlib")) < Version("0.12"):  # which has no such flag
        flags.append("--xla_cpu_use_fusion_emitters=false")  # half the time to compile
    os.environ["XLA_FLAGS"] = " ".join(flags)


def _keep_programs(config):
    """Lets tests, workers and commands under test compile a program once, also in later runs."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = ""  # not the user's, where commands keep theirs
    if hasattr(config, "cache") and not _on_accelerator(config):
        folder, size = config.cache.mkdir("compiled"), 1 << 30
        if sum(file.stat().st_size for file in folder.rglob("*-cache")) > size:
            shutil.rmtree(folder)  # see _nothing_evicted
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(size)


def pytest_collection_finish():
    """Spares the garbage collector all that was imported, and most of its rounds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_terminal_summary(terminalreporter, config):
    """Says on which devices the tests of an accelerator ran; JAX falls back to a CPU in silence."""
    if _on_accelerator(config):
        import jax

        terminalreporter.write_line(f"devices: {jax.devices()}")


def _on_accelerator(config):
    return re.search(r"(?<!not )\bgpu\b", config.option.markexpr)


@pytest.fixture(autouse=True, scope="session")
def _nothing_evicted():
    """Lets JAX add to the suite's programs without first reading through all of them.

    That takes longer than to compile a small one. Without a limit of the size, which would do the
    same, JAX does not lock the folder, and a worker may read what another has half written.
    """
    from jax._src import lru_cache

    kept = os.environ["JAX_COMPILATION_CACHE_DIR"]
    if not (evict := getattr(lru_cache.LRUCache, "_evict_if_needed", None)):  # in another JAX
        yield
        return

    def evict_elsewhere(self, **arguments):
        if not (kept and self.path.is_relative_to(kept)):
            evict(self, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lru_cache.LRUCache, "_evict_if_needed", evict_elsewhere)
        yield


@pytest.fixture
def undrawn(monkeypatch):
    """Puts a point in the place of every figure, for tests of what is around them.

    The points that t-SNE would place in one, which takes it seconds, are those of PCA.
    """
    from tests import pages
    from tl.report import style
    from tl.results import projection

    monkeypatch.setattr(style, "png", lambda draw, dark, dpi: pages.PIXEL)
    monkeypatch.setattr(projection, "tsne", projection.pca)


@pytest.fixture(scope="session")
def probe_page(tmp_path_factory):
    """The folder of a probe, not to be changed, and its page."""
    from tests import pages, reported
    from tl.report import page

    folder = reported.write_probe(tmp_path_factory.mktemp("probe"), pages.CLASSES)
    return folder, pages.Page(page.build(folder))


@pytest.fixture(scope="session")
def _s3():
    from tests import stores

    with stores.s3() as bucket:
        yield bucket


@pytest.fixture
def s3(_s3):
    """The path of a new bucket in an S3 server of this machine."""
    from tl.paths import as_path

    return as_path(f"{_s3()}/here")


@pytest.fixture(scope="session")
def _gs():
    from tests import stores

    with stores.gs() as bucket:
        yield bucket


@pytest.fixture
def gs(_gs, request):
    """The path of a new folder in an emulator of Google's object store."""
    from tl.paths import as_path

    return as_path(f"{_gs}/{hash(request.node.nodeid):x}")


@pytest.fixture(scope="session")
def lite0_features(tmp_path_factory):
    """A folder where runs of `tests.lite0` find the features that others computed."""
    return str(tmp_path_factory.mktemp("lite0"))


@pytest.fixture(scope="session")
def probed(lite0_features, tmp_path_factory):
    """A probe's folder, not to be changed, its result and what it said."""
    from tests import lite0
    from tl.runs import probe

    folder = tmp_path_factory.mktemp("probed")
    result, log = lite0.run(probe.run, lite0.config(lite0_features), folder)
    return folder, result, log


@pytest.fixture(autouse=True, scope="session")
def _hashes_kept_apart(tmp_path_factory):
    """Keeps what is known of the content of tests' files out of the user's cache."""
    from tl.data import content

    folder = tmp_path_factory.mktemp("hashes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "cache_root", lambda: folder)
        yield
