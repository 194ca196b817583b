"""Does all runs of a study, however often interrupted, and says what they came to.

  python -m experiments.ablate --config=configs/four_cases.py --workdir=STUDY [--dry_run]

Every run has a folder in STUDY/runs. The same command does what is missing: runs that were
interrupted go on, those that failed are tried again; several processes may work on one STUDY at
once, each on runs of its own, or with --multihost all on the same run. study.json, study.csv and
the plots hold the results.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from tl.errors import UserError
from tl.runs import cli

cli.define_run_flags()
flags.DEFINE_bool("dry_run", False, "Print the runs and what they cost, and do none.")


def main(_: Sequence[str]) -> None:
    """Does or describes the study that the flags name."""
    from tl.studies import folder as study_folder
    from tl.studies import study
    from tl.studies.plan import make_plan

    values = flags.FLAGS
    if "axes" not in values.config:
        raise UserError(
            f"{config_flags.get_config_filename(values['config'])} is no study but a single run; "
            "expected a config with axes, such as configs/four_cases.py"
        )
    plan = make_plan(values.config)
    if values.dry_run:
        study.dry_run(plan, values.workdir)
        return
    if values.workdir and not values.overwrite:  # before anything of another study is replaced
        study_folder.check(Path(values.workdir).expanduser(), *plan.runs)
    _, folder = cli.start_run()
    if failed := study.run(plan, folder, overwrite=values.overwrite):
        print(
            f"{len(failed)} of {len(plan.runs)} runs failed: {', '.join(failed)}. Each has its "
            f"reason in {folder}/runs/NAME/error.txt; the same command tries them again",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
