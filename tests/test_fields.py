"""Nested fields and their dotted names, by hand."""

from ml_collections import ConfigDict

from configs import common
from tl.fields import ADDED, config_fields, differences, flat, nested
from tl.files import as_json


def test_flat_fields_keep_their_order_and_their_values():
    tree = {"z": (1, 2), "a": {"y": {"x": None}, "b": ""}}
    assert list(flat(tree).items()) == [("z", (1, 2)), ("a.y.x", None), ("a.b", "")]
    assert flat(ConfigDict(tree)) == flat(tree)
    assert flat({"levels": {"a": ConfigDict({"b": 1})}}) == {"levels.a.b": 1}
    assert flat({}) == {} == nested({})


def test_nested_is_the_way_back():
    tree = {"run": "probe", "data": {"name": "digits", "more": {"seed": 0}}, "seeds": [0, 1]}
    assert nested(flat(tree)) == tree


def test_a_config_from_before_a_field_has_what_its_run_did():
    fields = config_fields({"seeds": [0], "train": {"epochs": 1}})
    assert fields == {"seeds": [0], "train.epochs": 1, **ADDED}
    assert config_fields({"train": {"loss": "focal"}})["train.loss"] == "focal"


def test_fields_that_were_added_are_in_the_config_and_off():
    default = as_json(flat(common.get_config()))
    assert {name: default[name] for name in ADDED} == ADDED
    assert ADDED == {
        "train.loss": "softmax",
        "extract.shared_endpoints": [],
        "weights_average": "",
        "weights_classes": "",
        "data.allow_duplicates": False,
        "data.image_column": "",
        "data.label_column": "",
        "data.split_column": "",
        "data.group_column": "",
        "data.group_pattern": "",
        "train.sharding": "replicated",
        "train.remat": False,
    }


def test_differences_name_nested_fields_and_both_sides():
    asked = {"data": {"split": "val", "count": 3}, "pooling": "mean"}
    stored = {"data": {"split": "test", "count": 3}, "code": "1"}
    assert differences(asked, stored) == [
        "code: asked None, stored '1'",
        "data.split: asked 'val', stored 'test'",
        "pooling: asked 'mean', stored None",
    ]
    assert differences(asked, asked) == []


def test_a_section_in_the_place_of_a_value_differs():
    assert differences({"a": {"b": 1}}, {"a": 1}) == [
        "a: asked None, stored 1",
        "a.b: asked 1, stored None",
    ]
