"""Does all runs of a study, however often interrupted, and says what they came to.

  python -m experiments.ablate --config=configs/four_cases.py --workdir=STUDY [--dry_run]

Every run has a folder in STUDY/runs. The same command does what is missing: runs that were
interrupted go on, those that failed are tried again; several processes may work on one STUDY at
once, each on runs of its own, or with --multihost all on the same run. study.json, study.csv and
the plots hold the results.
"""

import functools
import sys
from collections.abc import Callable, Sequence

from absl import flags
from ml_collections import config_flags

from tl import paths
from tl.errors import UserError
from tl.runs import cli

cli.define_run_flags()
flags.DEFINE_enum(
    "engine", "local", ["local", "ray", "submitit"], "Where runs are done: here, or on a cluster."
)
flags.DEFINE_float("gpus", 0.0, "Of each run, with an engine.", lower_bound=0)
flags.DEFINE_integer("cpus", 1, "Cores of each run, with an engine.", lower_bound=1)
flags.DEFINE_float("memory", 0.0, "GB of each run, with an engine.", lower_bound=0)
flags.DEFINE_float("hours", 24.0, "After which Slurm stops a job, to go on in a new one.")
flags.DEFINE_integer("retries", 3, "Of a run whose machine is gone, with an engine.", lower_bound=0)
flags.DEFINE_list("slurm", [], "Further options of sbatch, such as partition=gpu,account=lab.")
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
        study_folder.check(paths.as_path(values.workdir), *plan.runs)
    do = _engine(values)
    _, folder = cli.start_run()
    if failed := study.run(plan, folder, overwrite=values.overwrite, do=do):
        print(
            f"{len(failed)} of {len(plan.runs)} runs failed: {', '.join(failed)}. Each has its "
            f"reason in {folder}/runs/NAME/error.txt; the same command tries them again",
            file=sys.stderr,
        )
        sys.exit(1)


def _engine(values: flags.FlagValues) -> Callable[..., list[str]]:
    """Returns the function that does the runs."""
    from tl.studies import engines, work

    if values.engine == "local":
        return work.do
    if values.multihost or values.coordinator:
        raise UserError("an engine starts the workers itself; leave --multihost out")
    for option in values.slurm:
        if not option.partition("=")[2]:
            raise UserError(f"--slurm takes KEY=VALUE,..., got {option!r}")
    resources = engines.Resources(
        gpus=values.gpus,
        cpus=values.cpus,
        memory_gb=values.memory,
        hours=values.hours,
        retries=values.retries,
        slurm=dict(option.split("=", 1) for option in values.slurm),
    )
    return functools.partial(engines.do, values.engine, resources)


if __name__ == "__main__":
    cli.run(main)
