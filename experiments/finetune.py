"""Fine-tunes a network: every step recorded, the best on val kept, tested once at the end.

  python -m experiments.finetune --config=configs/digits_finetune.py --workdir=RUN

The same command goes on where an interrupted run was, with the same losses as if it had not been
interrupted. Afterwards RUN is a weight set: --config.weights=RUN in the other commands.
"""

from collections.abc import Sequence

from tl.runs import cli

cli.define_run_flags()


def main(_: Sequence[str]) -> None:
    """Runs the training that the flags describe."""
    from tl.runs import finetune

    finetune.run(*cli.start_run(resumable=True))


if __name__ == "__main__":
    cli.run(main)
