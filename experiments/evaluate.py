"""Measures the accuracy of a weight set or of a run on labelled images.

  python -m experiments.evaluate --config=configs/imagenet_eval.py [--config.FIELD=VALUE ...]

Prints top-1 and top-5 beside the published ones and writes result.json to --workdir.
"""

from collections.abc import Sequence

from tl.runs import cli

cli.define_run_flags()


def main(_: Sequence[str]) -> None:
    """Runs the evaluation that the flags describe."""
    from tl.runs import evaluate

    evaluate.run(*cli.start_run())


if __name__ == "__main__":
    cli.run(main)
