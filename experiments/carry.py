"""A folder with tl and its packages, for a machine without a package index.

python -m experiments.carry --into=FOLDER [--have=FILE] [--python=3.12] [--platform=x86_64]

FOLDER gets the files that git tracks, `wheels/`, and `run.sh`. Take it to the machine, and there

  sh run.sh OUT

installs the wheels into FOLDER/site, tests and measures on the GPU, and prints a summary; its flags
are those of `python -m experiments.gpu`. FILE is what `python3 -m pip list --format=freeze` prints
on that machine: packages that it names are left out, unless tl needs another version. Without it
everything comes, some gigabytes of CUDA included.
"""

from collections.abc import Sequence

from absl import flags

from experiments.gpu import pack
from tl.errors import UserError
from tl.paths import as_local
from tl.runs import cli

INTO = flags.DEFINE_string("into", None, "folder to make")
HAVE = flags.DEFINE_string("have", None, "file that names the packages which are there, one a line")
PYTHON = flags.DEFINE_string("python", "3.12", "version of Python there")
PLATFORM = flags.DEFINE_string("platform", "x86_64", "processor there, of a machine with Linux")


def main(arguments: Sequence[str]) -> None:
    """Makes the folder."""
    if arguments:
        raise UserError(f"expected flags such as --into=FOLDER, got {arguments[0]!r}")
    if not INTO.value:
        raise UserError("where to? Give --into=FOLDER")
    target = pack.Target(PYTHON.value, PLATFORM.value)
    have = pack.read_have(as_local(HAVE.value, "--have")) if HAVE.value else {}
    pack.pack(as_local(INTO.value, "--into"), target, have)


if __name__ == "__main__":
    cli.run(main)
