"""What to do with these data and this network: a minute's look, an answer, the command to run next.

  python -m experiments.advise --config=configs/quickstart.py [--config.FIELD=VALUE ...]

Any config will do; data, weights, preprocessing and pooling are taken from it, and the largest of
its examples_per_class. Every endpoint is probed on a part of train, never on test. Prints which of
the guide's four cases it is, the advice and what to expect, and writes result.json and report.html
to --workdir. How it decides: tl/advice/rule.py; how it looks ahead: tl/advice/curves.py.

Measured with EfficientNet-Lite0 on two CPU cores, one seed; what was advised, and what came of it:

digits, 100 a class        probe, stages 3+4+5   99.0 % (97.9-99.5)   99.2 %
digits, 10 a class         probe, stage 4        99.1 % (94.3-100)    94.4 %
CIFAR-10, 20 a class       probe, stages 5+6+7   60.6 % (52.3-68.3)   64.2 % (LP-FT 60.6)
CIFAR-10, 500 a class      LP-FT                 82.5 % (72.9-89.6)   83.0 % (configs/lpft.py)

Seconds with nothing cached: digits 17, all 50,000 images of CIFAR-10 at 96 px 27.
"""

import runpy

from absl import flags
from ml_collections import config_flags

from tl import cli

cli.define_run_flags()
IMAGES = flags.DEFINE_integer("images", 0, "Images to look at; 0: what half a minute allows.")


def main(_):
    """Looks at what the flags describe, and advises."""
    from tl.advice import run

    config, workdir = cli.start_run()
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    base = runpy.run_path(file)["get_config"]()
    run.advise(config, base, file, workdir, limit=IMAGES.value)


if __name__ == "__main__":
    cli.run(main)
