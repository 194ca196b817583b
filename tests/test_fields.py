"""Nested fields and their dotted names, by hand."""

from ml_collections import ConfigDict

from tl.fields import differences, flat, nested


def test_flat_fields_keep_their_order_and_their_values():
    tree = {"z": (1, 2), "a": {"y": {"x": None}, "b": ""}}
    assert list(flat(tree).items()) == [("z", (1, 2)), ("a.y.x", None), ("a.b", "")]
    assert flat(ConfigDict(tree)) == flat(tree)
    assert flat({"levels": {"a": ConfigDict({"b": 1})}}) == {"levels.a.b": 1}
    assert flat({}) == {} == nested({})


def test_nested_is_the_way_back():
    tree = {"run": "probe", "data": {"name": "digits", "more": {"seed": 0}}, "seeds": [0, 1]}
    assert nested(flat(tree)) == tree


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
