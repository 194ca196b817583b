from configs import common
from tl.studies.config import study


def test_levels_keep_the_order_they_are_written_in():
    axes = {
        "size": {"small": {"train.steps": 1}, "large": {"train.steps": 2}},
        "endpoint": ("b", "a"),
    }
    config = study("title", common.get_config(), axes, columns="size")
    assert list(config.axes) == ["size", "endpoint"]
    assert list(config.axes["size"]) == ["small", "large"]
    assert config.axes.endpoint == ("b", "a")


def test_names_of_levels_are_text():
    axes = {"size": {32: {"preprocess.size": 32}, True: {}}}
    config = study("title", common.get_config(), axes, columns="size")
    assert list(config.axes["size"]) == ["32", "True"]


def test_dotted_fields_become_a_tree():
    fields = {"run": "probe", "data.name": "digits", "data.val": "0.1", "endpoints": ("stem",)}
    config = study("title", common.get_config(), {"way": {"one": fields}}, columns="way")
    assert config.axes.way.one.to_dict() == {
        "run": "probe",
        "data": {"name": "digits", "val": "0.1"},
        "endpoints": ("stem",),
    }
