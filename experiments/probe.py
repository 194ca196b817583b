"""Fits probes on the frozen features of a backbone: extract, select on val, refit, test once.

  python -m experiments.probe --config=configs/quickstart.py [--config.FIELD=VALUE ...]

Prints a table and writes result.json, and a plot of accuracy over endpoint, to --workdir.
"""

from collections.abc import Sequence

from tl.runs import cli

cli.define_run_flags()


def main(_: Sequence[str]) -> None:
    """Runs the probe that the flags describe."""
    from tl.runs import probe

    probe.run(*cli.start_run())


if __name__ == "__main__":
    cli.run(main)
