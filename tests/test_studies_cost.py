import pytest

from tests import studies
from tl.errors import UserError
from tl.runs.cost import Cost
from tl.studies import cost
from tl.studies.cost import Estimator, Pace
from tl.studies.plan import make_plan

TUNE = {"train.batch_size": 16, "train.steps": 150, "train.eval_every": 40, "preprocess.size": 64}


def costs_of(plan):
    estimator = Estimator()
    return {run.name: estimator.known_cost(run) for run in plan.runs}


def test_a_run_on_digits():
    (run,) = studies.plan({"method": {"tune": TUNE}}).runs
    # 80 images to train on and 20 to choose on, at step 0, 40, 80, 120 and 150; 797 to test on.
    found = Estimator().cost(run)
    assert found == Cost(steps=150, trained=2400, evaluated=5 * 20 + 797, extracted=0, size=64)


def test_whatever_is_wrong_is_for_the_run_to_say(monkeypatch):
    def broken(data):
        raise PermissionError("no")

    monkeypatch.setattr(cost.sources, "open_sources", broken)
    (run,) = studies.plan({"method": {"tune": TUNE}}).runs
    assert Estimator().known_cost(run) is None


@pytest.fixture
def partly(tmp_path):
    """A study on digits and on a set that is not there."""
    config = studies.config({"data": ("cifar10", "digits"), "seed": (0, 1)}, run="probe")
    config.base.data.data_dir = str(tmp_path)
    return make_plan(config)


def test_data_that_are_not_at_hand(partly):
    costs = costs_of(partly)
    assert costs["cifar10-seed0"] is None
    assert costs["digits-seed1"].extracted == 1797
    with pytest.raises(UserError, match="cifar10"):
        Estimator().cost(partly.runs[0])


def test_what_a_study_comes_to(partly):
    assert cost.describe(partly, costs_of(partly), {"digits-seed0": 9.0}).splitlines() == [
        "A study: 4 runs (4 probe), 1 finished, 3 to do now",
        # Digits are extracted; of the other nothing is known.
        "extractions to do, each shared: 1, of 0 images in all",
        "training: 0 steps, 0 images forward and backward, 0 to evaluate on",
        "not counted: 2 runs whose data are not at hand",
        # One takes 9 s as before; of the others nothing is known but that they are two.
        "about 9 s left for one process, by the runs that are finished",
    ]


def test_nothing_tells_how_long_before_a_run_is_finished():
    plan = studies.plan()
    costs = dict.fromkeys((run.name for run in plan.runs), Cost(1, 1, 1, 1, 8))
    assert Pace(plan, costs, {"tune-seed0": 5.0}).seconds(plan.runs) is None
    assert "unknown until a run of each kind is finished" in cost.describe(
        plan, costs, {"tune-seed0": 5.0}
    )


def test_pace_by_the_same_setting_or_by_the_work_of_the_kind():
    plan = studies.plan({"method": {"a": {}, "b": {}, "c": {}}, "seed": (0, 1)})
    # Work of 10, 30 and 20 images of one pixel.
    sizes = {"a": 9, "b": 29, "c": 19}
    costs = {run.name: Cost(0, 0, sizes[run.levels["method"]], 0, 1) for run in plan.runs}
    pace = Pace(plan, costs, {"a-seed0": 4.0, "a-seed1": 6.0, "b-seed0": 10.0})
    by_name = {run.name: run for run in plan.runs}
    assert pace.seconds([by_name["b-seed1"]]) == 10.0  # as with the other seed
    # 50 images took 20 s.
    assert pace.seconds([by_name["c-seed0"]]) == pytest.approx(8.0)
    assert pace.seconds([by_name["b-seed1"], by_name["c-seed0"]]) == pytest.approx(18.0)
    assert pace.seconds([]) == 0.0
