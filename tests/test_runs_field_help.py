from pathlib import Path

from configs import common
from tl.fields import flat
from tl.runs.field_help import field_help

SOURCE = Path(common.__file__).read_text()


def test_a_field_has_its_value_and_comment():
    config = common.get_config()
    config.optim.learning_rate = 0.5
    lines = field_help(config, SOURCE).splitlines()
    at = lines.index("  --config.train.accumulate=1")
    assert lines[at + 1] == "      parts that a batch is computed in, one after the other"
    assert "  --config.optim.learning_rate=0.5" in lines
    at = lines.index("  --config.endpoints=('pooled',)")
    assert lines[at + 1].startswith("      Endpoints of the backbone to probe, each by its")
    (l2,) = (line for line in lines if "--config.probe.l2=" in line)
    assert l2 == f"  --config.probe.l2=(1e-06, {config.probe.l2[1]}, ... 100000.0)"


def test_every_field_is_listed():
    config = common.get_config()
    lines = field_help(config, SOURCE).splitlines()
    assert sum(line.startswith("  --config.") for line in lines) == len(flat(config))


def test_comments_above_and_beside():
    source = (
        "    # Above,\n    # twice.\n    config.a = 1  # beside\n    config.b = 2\n\n    # lost\n\n"
    )
    config = {"a": 1, "b": 2, "base": {"a": 3}}
    assert field_help(config, source) == (
        "  --config.a=1\n      Above, twice. beside\n  --config.b=2\n  --config.base.a=3\n"
        "      Above, twice. beside"
    )
