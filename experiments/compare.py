"""Compares finished runs on the same test images: the difference, its interval, and a test of it.

  python -m experiments.compare RUN RUN [RUN ...] [--json=FILE]

RUN is the folder of a probe or a fine-tuning run; the first is the baseline.
"""

from collections.abc import Sequence

from absl import flags

from tl import files, paths
from tl.errors import UserError
from tl.runs import cli

JSON = flags.DEFINE_string("json", "", "file to write the numbers to")


def main(folders: Sequence[str]) -> None:
    """Prints the comparison of the runs in some folders."""
    from tl.results import compare

    if len(folders) < 2:
        raise UserError(
            f"expected two folders of runs or more, got {len(folders)}: "
            "python -m experiments.compare RUN RUN"
        )
    comparisons = compare.compare([compare.read(folder) for folder in folders])
    print(compare.text(comparisons))
    if JSON.value:
        path = paths.as_path(JSON.value)
        try:
            files.write_json(path, compare.as_dict(comparisons))
        except OSError as error:
            raise UserError(
                f"--json={path} cannot be written: {error.strerror or error}"
            ) from error
        print(f"\nwritten: {path}")


if __name__ == "__main__":
    cli.run(main)
