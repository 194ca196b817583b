"""What to do with these data and this network: a minute's look, an answer, the command to run next.

  python -m experiments.advise --config=configs/quickstart.py [--config.FIELD=VALUE ...]

Any config will do; data, weights, preprocessing and pooling are taken from it, and the largest of
its examples_per_class. Every endpoint is probed on a part of train, never on test. Prints which of
the guide's four cases it is, the advice and what to expect, and writes result.json and report.html
to --workdir. How it decides: tl/advice/rule.py; how it looks ahead: tl/advice/curves.py.

Measured with EfficientNet-Lite0 on two CPU cores, one seed; advised, expected, and what came of it:

digits, 10 a class         probe, stage 4          98.2 % (92.8-100)    94.4 %
digits, 100 a class        probe, stages 3+4+5     98.6 % (97.4-99.3)   99.2 %
CIFAR-10, 20 a class       fine-tune all           65.6 % (50.7-77.4)   66.2 %
CIFAR-10, 250 a class      fine-tune all           84.2 % (70.1-94.7)   85.4 %

configs/four_cases.py, whose best methods have 94.2, 99.5, 68.7 and 84.2 % there, gave the rule its
numbers.

Seconds with nothing cached: digits 17, all 50,000 images of CIFAR-10 at 96 px 27.
"""

import runpy
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from tl.errors import UserError
from tl.fields import flat
from tl.runs import cli

cli.define_run_flags()
IMAGES = flags.DEFINE_integer("images", 0, "Images to look at; 0: what half a minute allows.")


def main(_: Sequence[str]) -> None:
    """Looks at what the flags describe, and advises."""
    from tl.advice import run

    if flags.FLAGS.multihost or flags.FLAGS.coordinator:
        raise UserError(
            "advise looks at some hundred images, which one host does; leave the flag out"
        )
    config, workdir = cli.start_run()
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    base = runpy.run_path(file)["get_config"]()
    run.advise(flat(config), flat(base), file, workdir, limit=IMAGES.value)


if __name__ == "__main__":
    cli.run(main)
