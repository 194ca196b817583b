"""Runs the frozen backbone once over every split and stores the features of its endpoints.

  python -m experiments.extract --config=configs/cifar10_probe.py [--config.FIELD=VALUE ...]

An interrupted extraction goes on where it was; features that are already there are not computed
again. Later probes on the same features start at once.
"""

from collections.abc import Sequence

from tl.runs import cli

cli.define_run_flags()


def main(_: Sequence[str]) -> None:
    """Runs the extraction that the flags describe."""
    from tl.runs import extract

    extract.run(*cli.start_run())


if __name__ == "__main__":
    cli.run(main)
