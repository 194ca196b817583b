"""Tests and measures on this machine's GPU; a summary comes last.

python -m experiments.gpu --out=FOLDER [--test_seconds=900] [--benchmark_seconds=900] [-- FLAGS]

runs `python -m pytest -m gpu`, then, also where tests fail, `python -m experiments.benchmark
--sections=gpu`. FOLDER gets tests.log, benchmark.log, benchmark.json and summary.txt. The exit
status is 1 where a test or the benchmark failed, or no test passed. FLAGS are more flags for the
benchmark, such as --gpu_parts=features. For a machine without a package index,
`python -m experiments.carry` makes a folder in which this command runs.
"""

import functools
import sys
from collections.abc import Sequence

from absl import flags

from experiments.gpu import check
from tl.errors import UserError
from tl.paths import as_local
from tl.runs import cli

OUT = flags.DEFINE_string("out", None, "folder for the logs and results")
TEST_SECONDS = flags.DEFINE_float("test_seconds", 900, "after which the tests are stopped", 1)
BENCHMARK_SECONDS = flags.DEFINE_float(
    "benchmark_seconds", 900, "after which the benchmark is stopped", 1
)
PROCESSES = flags.DEFINE_integer("processes", 4, "of pytest, which share the GPU", 1)


def main(arguments: Sequence[str]) -> None:
    """Runs both and exits with 1 where one failed."""
    if arguments and not arguments[0].startswith("-"):
        raise UserError(f"expected flags such as --out=FOLDER, got {arguments[0]!r}")
    if not OUT.value:
        raise UserError("where to? Give --out=FOLDER")
    passed = check.check(
        as_local(OUT.value, "--out"),
        test_seconds=TEST_SECONDS.value,
        benchmark_seconds=BENCHMARK_SECONDS.value,
        processes=PROCESSES.value,
        benchmark_flags=arguments,
        log=functools.partial(print, flush=True),  # minutes pass between lines
    )
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    cli.run(main)
