import pytest

from tl.results import formats
from tl.results.formats import NONE, THIN


def test_what_was_not_measured_is_a_dash():
    assert formats.percent(None) == formats.seconds(None) == formats.points(None) == NONE
    assert formats.interval(None) == formats.interval((None, 0.5)) == formats.date("") == NONE
    assert [formats.value(item) for item in (None, "", (), [])] == [NONE] * 4


def test_percent_has_one_decimal():
    assert formats.in_percent(0.97649) == "97.6"
    assert formats.percent(0.97649) == f"97.6{THIN}%"
    assert formats.percent(1.0) == f"100.0{THIN}%"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h")],
)
def test_durations(seconds, text):
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59.94, "59.9 s"), (59.95, "1 min 0 s"), (3599.4, "59 min 59 s"), (3599.5, "1 h 0 min")],
)
def test_measured_times_never_have_sixty_of_a_unit(seconds, text):
    assert formats.seconds(seconds).replace(THIN, " ") == text


def test_values_of_settings():
    assert formats.value(False) == "no"
    assert formats.value(12345) == "12,345"
    assert formats.value((0.1, True, ())) == f"0.1, yes, {NONE}"
    assert formats.setting({"method": "fine-tune", "step": 1200}) == "fine-tune, step 1,200"


def test_words_for_a_shell():
    assert formats.shell_word("it's $5") == "'it'\"'\"'s $5'"
    assert formats.shell_word("--a=('b','c')") == "\"--a=('b','c')\""
