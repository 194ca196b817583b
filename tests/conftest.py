"""Eight fake CPU devices for every test, and no programs kept, set before JAX is first imported."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""  # commands under test would write into the user's

collect_ignore = ["make_golden.py"]  # a script, which changes what may be imported after it
