"""Eight fake CPU devices for every test, no programs kept, and types checked at run time.

All of it is set before `tl` or JAX is first imported.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""  # commands under test would write into the user's

from jaxtyping import install_import_hook

import tests.typechecker

# Arguments and results of every function must be what its annotations say, array shapes too.
CHECKED = ["tl.metrics", "tl.errors", "tl.devices", "tl.tree", "tl.fields", "tl.files"]
CHECKED += ["tl.checkpoint", "tl.probes", "tl.data", "tl.report"]
CHECKED += ["tl.train.losses", "tl.train.mixing", "tl.train.steps"]
# Not `predictions`, which itself checks what a file holds.
CHECKED += [f"tl.results.{m}" for m in ("calibration", "compare", "confusion", "examples")]
CHECKED += [f"tl.results.{m}" for m in ("intervals", "projection")]
CHECKED += ["tl.advice", "tl.studies", "tl.runs.cost"]
install_import_hook(CHECKED, f"{tests.typechecker.__name__}.check")

collect_ignore = ["make_golden.py"]  # a script, which changes what may be imported after it
