import pytest

from tl.errors import UserError, nearest


def test_nearest_first():
    assert nearest("stage44", ["stem", "stage4", "pooled"]) == "; the nearest are 'stage4', 'stem'"


def test_all_where_none_is_near():
    assert nearest("xyz", ["b", "a"]) == "; there are 'a', 'b'"


def test_callers_may_catch_value_errors():
    with pytest.raises(ValueError, match="text"):
        raise UserError("text")
