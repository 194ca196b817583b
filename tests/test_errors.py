import pytest

from tl.errors import Stopped, UserError, nearest


def test_nearest_first():
    assert nearest("stage44", ["stem", "stage4", "pooled"]) == "; the nearest are 'stage4', 'stem'"


def test_all_where_none_is_near():
    assert nearest("xyz", ["b", "a"]) == "; there are 'a', 'b'"
    assert nearest("xyz", ["b", "a"], "`list` has them") == "; `list` has them"
    assert nearest("ab", ["a"], "`list` has them") == "; the nearest are 'a'"


def test_callers_may_catch_value_errors():
    with pytest.raises(ValueError, match="text"):
        raise UserError("text")


def test_an_error_names_the_field_at_fault():
    error = UserError("expected at least 1, got 0", field="train.batch_size")
    assert str(error) == "train.batch_size: expected at least 1, got 0"
    assert error.field == "train.batch_size"
    assert UserError("text").field == ""


def test_a_stop_is_no_mistake_and_has_the_shells_status():
    stopped = Stopped("stopped by SIGTERM", 143)
    assert (str(stopped), stopped.status) == ("stopped by SIGTERM", 143)
    assert not isinstance(stopped, ValueError)
