"""Pages of finished runs, made from their files alone, and the index of all of them.

python -m experiments.report WORKDIR [WORKDIR ...]
python -m experiments.report --index=ROOT
"""

from collections.abc import Sequence

from absl import flags

from tl import paths
from tl.errors import UserError
from tl.runs import cli

INDEX = flags.DEFINE_string("index", "", "folder of runs, such as runs/: write its index.html")


def main(arguments: Sequence[str]) -> None:
    """Writes `report.html` into every folder named, or `index.html` into --index."""
    if bool(arguments) == bool(INDEX.value):
        raise UserError(
            "expected the folders of finished runs, or --index=ROOT for all runs below a folder; "
            f"got {'both' if arguments else 'neither'}"
        )
    from tl.report import page  # imports Matplotlib, which a misspelt flag need not wait for

    if INDEX.value:
        print(page.index(paths.as_local(INDEX.value, "a folder of runs")))
    for folder in arguments:
        print(page.build(paths.as_path(folder)))


if __name__ == "__main__":
    cli.run(main)
